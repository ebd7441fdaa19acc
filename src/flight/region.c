/* SPDX-License-Identifier: BSD-2-Clause */
/* The in-flight region of vhost-user: see region.h. */
#include "flight/region.h"

#include "base/bits.h"

#define TAIL_MAGIC UINT64_C(0x3172656570626d75) /* "umbpeer1" */

struct region_mark {
	le64 pid, start, boot[2], space;
};

/* Of the two marks the one that does not count is written, then `count` moves on: so one of
 * them is whole at any time.  0: none is. */
struct region_tail {
	le64 magic;
	le64 count; /* marks[count % 2] counts */
	struct region_mark marks[2];
};

static size_t queue_bytes(uint32_t size)
{
	return align_up(sizeof(struct region_queue) + size * sizeof(struct region_desc),
			REGION_ALIGN);
}

size_t region_queues_bytes(uint32_t queues, uint32_t size)
{
	return queues * queue_bytes(size);
}

size_t region_bytes(uint32_t queues, uint32_t size)
{
	return region_queues_bytes(queues, size) +
	       align_up(sizeof(struct region_tail), REGION_ALIGN);
}

struct region_queue *region_queue_at(const struct region_map *map, uint32_t index)
{
	return index < map->queues ? (void *)(map->memory + index * queue_bytes(map->size)) : NULL;
}

void region_map(struct region_map *map, void *memory, size_t bytes, uint32_t queues, uint32_t size,
		bool is_new)
{
	const struct region_map whole = { memory, queues, size, NULL };
	struct region_tail *tail = NULL;

	if (bytes >= region_bytes(queues, size))
		tail = (void *)((uint8_t *)memory + region_queues_bytes(queues, size));
	for (uint32_t i = 0; i < queues && is_new; i++)
		shm_store16_release(&region_queue_at(&whole, i)->version, 0);
	if (tail && is_new) {
		shm_store64_release(&tail->count, 0);
		shm_store64_release(&tail->magic, TAIL_MAGIC);
	}
	if (tail && shm_load64(&tail->magic) != TAIL_MAGIC)
		tail = NULL;
	*map = (struct region_map){ memory, queues, size, tail };
}

uint32_t region_count(const struct region_queue *q, uint32_t size)
{
	uint32_t count = 0;

	if (shm_load16(&q->version))
		for (uint32_t head = 0; head < size; head++)
			count += shm_load8(&q->desc[head].inflight) != 0;
	return count;
}

void region_store_peer(const struct region_map *map, const struct process_mark *peer)
{
	struct process_mark before;
	struct region_mark *mark;
	uint64_t count;

	if (!map->tail || (region_load_peer(map, &before) == REGION_PEER_KNOWN &&
			   process_mark_is_same(&before, peer)))
		return;
	count = shm_load64(&map->tail->count) + 1;
	if (!count) /* what the front-end wrote there is no count of ours */
		count = 2;
	mark = &map->tail->marks[count % 2];
	shm_store64_release(&mark->pid, peer->pid);
	shm_store64_release(&mark->start, peer->start);
	shm_store64_release(&mark->boot[0], peer->boot[0]);
	shm_store64_release(&mark->boot[1], peer->boot[1]);
	shm_store64_release(&mark->space, peer->space);
	shm_store64_release(&map->tail->count, count);
}

enum region_peer region_load_peer(const struct region_map *map, struct process_mark *peer)
{
	const struct region_mark *mark;
	uint64_t count;

	*peer = (struct process_mark){ 0 };
	if (!map->tail)
		return REGION_PEER_UNKNOWN;
	count = shm_load64(&map->tail->count);
	if (!count)
		return REGION_PEER_NOBODY;
	mark = &map->tail->marks[count % 2];
	*peer = (struct process_mark){ shm_load64(&mark->pid),
				       shm_load64(&mark->start),
				       { shm_load64(&mark->boot[0]), shm_load64(&mark->boot[1]) },
				       shm_load64(&mark->space) };
	return peer->pid ? REGION_PEER_KNOWN : REGION_PEER_UNKNOWN;
}

void region_void(struct region_queue *q, uint32_t size)
{
	shm_store16_release(&q->version, 0);
	for (uint32_t head = 0; head < size; head++)
		shm_store8_release(&q->desc[head].inflight, 0);
}
