/* SPDX-License-Identifier: BSD-2-Clause */
/* A flight table on the heap, for whoever tests what keeps one. */
#ifndef UMBRA_TEST_FLIGHTS_H
#define UMBRA_TEST_FLIGHTS_H

#include <stdlib.h>

#include "flight/flight_table.h"

/* Of a ring of @heads, for shadow rings of up to @ids.  NULL: no memory. */
static inline struct flight_table *flights_new(uint32_t heads, uint32_t ids)
{
	struct flight_config config = { .sizes = { .heads = heads, .ids = ids } };
	struct flight_table *t = malloc(sizeof(*t));

	config.memory = aligned_alloc(FLIGHT_ALIGN, flight_bytes(&config.sizes));
	config.list = calloc(heads, sizeof(*config.list));
	if (!t || !config.memory || !config.list || flight_format(t, &config))
		return NULL;
	return t;
}

static inline void flights_free(struct flight_table *t)
{
	free(t->header);
	free(t->list);
	free(t);
}

#endif
