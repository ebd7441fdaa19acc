/* SPDX-License-Identifier: BSD-2-Clause */
/* The flight table of a lane: see lane_flights.h. */
#include "lane/lane_flights.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

#define PAGE 4096u /* bytes, in which the host gives memory */

int lane_flights_make(struct lane_flights *f, struct shadow_host *host, uint32_t heads,
		      struct ring_position at, struct umbra_error *err)
{
	/* A shadow ring has no more entries than the guest's. */
	struct flight_config config = { .sizes = { .heads = heads, .ids = heads }, .at = at };
	int rc;

	if (f->list)
		return 0;
	rc = host->ops->make_memory(host, align_up(flight_bytes(&config.sizes), PAGE), &f->memory,
				    err);
	if (rc)
		return rc;
	config.memory = f->memory.host;
	config.list = f->list = calloc(heads, sizeof(*f->list));
	if (f->list && !flight_format(&f->table, &config))
		return 0;
	lane_flights_free(f);
	return error_set(err, -ENOMEM, "no memory for a table of %u chains in flight", heads);
}

uint16_t lane_flights_waiting(const struct lane_flights *f, struct ring_position at)
{
	uint32_t count = f->list && flight_stands(&f->table, at) ? flight_list(&f->table) : 0;
	uint16_t waiting = 0;

	for (uint32_t i = 0; i < count; i++)
		waiting += flight_waits(&f->list[i]);
	return waiting;
}

uint64_t lane_flights_oldest(const struct lane_flights *f)
{
	uint32_t count = f->list ? flight_list(&f->table) : 0;

	for (uint32_t i = 0; i < count; i++)
		if (flight_waits(&f->list[i]))
			return f->list[i].order;
	return UINT64_MAX;
}

uint64_t lane_flights_next(const struct lane_flights *f)
{
	return f->list ? f->table.next : 0;
}

void lane_flights_forget(struct lane_flights *f)
{
	if (f->list)
		flight_forget(&f->table);
}

void lane_flights_free(struct lane_flights *f)
{
	free(f->list);
	if (f->memory.backing)
		memory_backing_unref(f->memory.backing);
	*f = (struct lane_flights){ .list = NULL };
}
