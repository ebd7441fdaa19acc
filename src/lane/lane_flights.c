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

void lane_flights_bring(struct lane_flights *f, struct region_queue *region, uint32_t size)
{
	f->region = region;
	f->region_size = size;
	f->region_is_unread = region;
	flight_keep(&f->table, NULL, 0);
}

static bool owes_nothing(const struct lane_flights *f)
{
	return !f->list || !flight_owed(&f->table);
}

uint32_t lane_flights_unread(const struct lane_flights *f)
{
	return f->region_is_unread && owes_nothing(f) ? region_count(f->region, f->region_size) : 0;
}

/* Of a table that owes nothing: what the region says. */
static int region_take_over(struct lane_flights *f, uint32_t heads, struct ring_position said,
			    struct ring_position *at, uint32_t *found, struct umbra_error *err)
{
	struct region_judged j;
	if (region_flights(f->region, f->region_size, heads, said, f->list, &j, err))
		return -EPROTO;
	if (!j.is_kept)
		return 0;
	said.avail = (uint16_t)(said.used + j.count);
	/* A front-end that lost its back-end knows what was used, and no more. */
	if (at->avail != said.used && at->avail != said.avail)
		return error_set(err, -EPROTO,
				 "it is to start at %u, but its used index is %u, and with the %u "
				 "chains in flight of its in-flight region it stands at %u",
				 at->avail, said.used, j.count, said.avail);
	flight_adopt(&f->table, f->region, f->region_size, &j);
	f->region_was_read = true;
	*at = said;
	*found = j.count;
	return 0;
}

int lane_flights_read(struct lane_flights *f, struct shadow_host *host, uint32_t heads,
		      struct ring_position said, struct ring_position *at, uint32_t *found,
		      struct umbra_error *err)
{
	bool is_to_be_read = f->region_is_unread && owes_nothing(f);
	int rc;

	*found = 0;
	if (!f->region || heads > f->region_size)
		return 0;
	rc = lane_flights_make(f, host, heads, *at, err);
	if (rc || f->table.region)
		return rc;
	if (is_to_be_read)
		rc = region_take_over(f, heads, said, at, found, err);
	if (rc)
		return rc;
	f->region_is_unread = false;
	if (!f->table.region)
		flight_keep(&f->table, f->region, f->region_size);
	return 0;
}

void lane_flights_leave(struct lane_flights *f)
{
	flight_keep(&f->table, NULL, 0);
	f->region_is_unread = false;
}

void lane_flights_void(struct lane_flights *f)
{
	if (f->region)
		region_void(f->region, f->region_size);
	lane_flights_leave(f);
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
	lane_flights_void(f);
}

void lane_flights_free(struct lane_flights *f)
{
	struct region_queue *region = f->region;
	uint32_t size = f->region_size;
	bool is_unread = f->region_is_unread;

	free(f->list);
	if (f->memory.backing)
		memory_backing_unref(f->memory.backing);
	*f = (struct lane_flights){ .region = region,
				    .region_size = size,
				    .region_is_unread = is_unread };
}
