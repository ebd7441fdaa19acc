/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device's role on a split ring: see device_ring.h.
 *
 * Where hostile bytes become trusted: avail->idx in avail_refresh(), which
 * bounds what is taken; the head in device_ring_take(); descriptors in
 * chain_walk(), each copied once.  What leaves this file in a
 * struct ring_chain obeys chain.h, whatever the driver does meanwhile.
 *
 * Work per chain is bounded by the ring's size, or that of its table, also for a
 * chain that loops.
 */
#include "ring/device_ring.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>

#include "base/shm.h"

#define DESC_BYTES 16u

/* A table of descriptors: the ring's own, or an indirect one. */
struct desc_table {
	const struct split_desc *host; /* NULL: only reachable byte by byte, at addr */
	uint64_t addr;                 /* as the driver gave it, judged; indirect tables only */
	uint32_t count;
};

static int device_ring_broken(struct device_ring *r, enum ring_fault fault, uint16_t head,
			      uint64_t value, uint64_t limit)
{
	r->error =
		(struct ring_error){ .fault = fault, .head = head, .value = value, .limit = limit };
	return -EPROTO;
}

void device_ring_init(struct device_ring *r, const struct device_ring_config *config)
{
	assert(is_power_of_two(config->split.size) && config->split.size <= SPLIT_SIZE_MAX);
	*r = (struct device_ring){
		.split = config->split,
		.memory = config->memory,
		.event_idx = config->features & BIT64(VIRTIO_RING_F_EVENT_IDX),
		.indirect = config->features & BIT64(VIRTIO_RING_F_INDIRECT_DESC),
		.last_avail = config->at.avail,
		.avail_seen = config->at.avail,
		.used_idx = config->at.used,
		.used_published = config->at.used,
		.used_signalled = config->at.used,
		.table_max = MAX(config->split.size, config->table_max),
	};
}

/* ---- indirect tables ------------------------------------------------------ */

static uint8_t table_byte(struct device_ring *r, uint64_t addr)
{
	const uint8_t *host;

	if (!r->memory)
		return shm_load8((const uint8_t *)(uintptr_t)addr);
	host = memory_host(r->memory, &r->table_hint, (gpa_t){ addr }, 1);
	assert(host); /* table_enter() has asked memory_covers() */
	return shm_load8(host);
}

/*
 * Descriptor @i of a table that is not aligned to 8 bytes, or that lies across
 * regions whose mappings do not adjoin.  The specification allows both; no
 * driver that we know does either.  Each byte is read once.
 */
static __attribute__((cold, noinline)) struct split_desc_copy
table_load_bytes(struct device_ring *r, const struct desc_table *t, uint32_t i)
{
	uint64_t addr = t->addr + (uint64_t)i * DESC_BYTES, word[2] = { 0, 0 };

	for (unsigned int b = 0; b < DESC_BYTES; b++)
		word[b / 8] |= (uint64_t)table_byte(r, addr + b) << b % 8 * 8;
	return (struct split_desc_copy){ .addr = word[0],
					 .len = (uint32_t)word[1],
					 .flags = (uint16_t)(word[1] >> 32),
					 .next = (uint16_t)(word[1] >> 48) };
}

/*
 * Judge the descriptor @d, which refers to an indirect table: into *@t.  Returns the
 * segments that the chain may have, or -EPROTO.
 */
static __attribute__((noinline)) int table_enter(struct device_ring *r, struct desc_table *t,
						 uint16_t head, struct split_desc_copy d)
{
	uint32_t count = d.len / DESC_BYTES, limit = r->split.size;
	const uint8_t *host;

	if (t->count)
		return device_ring_broken(r, RING_INDIRECT_NESTED, head, 0, 0);
	if (!r->indirect)
		return device_ring_broken(r, RING_INDIRECT_UNNEGOTIATED, head, 0, 0);
	if (d.flags & VRING_DESC_F_NEXT)
		return device_ring_broken(r, RING_INDIRECT_WITH_NEXT, head, 0, 0);
	if (d.len % DESC_BYTES)
		return device_ring_broken(r, RING_INDIRECT_SIZE, head, d.len, 0);
	if (unlikely(count - 1 >= limit)) { /* none, too, wraps to many */
		if (count == 0)
			return device_ring_broken(r, RING_INDIRECT_EMPTY, head, 0, 0);
		if (count > r->table_max)
			return device_ring_broken(r, RING_INDIRECT_TOO_LONG, head, count,
						  r->table_max);
		r->table_longest = MAX(r->table_longest, count);
		limit = count;
	}
	if (r->memory) {
		host = memory_host(r->memory, &r->table_hint, (gpa_t){ d.addr }, d.len);
		if (unlikely(!host) &&
		    !memory_covers(r->memory, &r->table_hint, (gpa_t){ d.addr }, d.len))
			return device_ring_broken(r, RING_INDIRECT_OUTSIDE, head, d.addr, d.len);
	} else {
		host = (const uint8_t *)(uintptr_t)d.addr;
	}
	if (unlikely((uintptr_t)host % 8))
		host = NULL;
	t->host = (const void *)host;
	t->addr = d.addr;
	t->count = count;
	return (int)limit;
}

/* ---- taking --------------------------------------------------------------- */

/*
 * Copy and judge the chain that starts at @head, which is in range.
 *
 * What indirect tables need beside is kept out of line and in memory, so that
 * the loop has its registers for itself.  It is inlined by order: as a function
 * of its own it costs 9 instructions a buffer.
 */
static inline __attribute__((always_inline)) int chain_walk(struct device_ring *r,
							    struct ring_chain *chain, uint16_t head)
{
	const struct split_desc *host = r->split.desc;
	const struct memory *memory = r->memory;
	uint32_t limit = r->split.size, entries = limit, i = head, count = 0, readable = 0;
	uint64_t readable_bytes = 0, writable_bytes = 0;
	struct desc_table table = { .count = 0 };
	struct ring_seg *seg = chain->segs;

	for (;;) {
		struct split_desc_copy d =
			likely(host) ? split_desc_load(&host[i]) : table_load_bytes(r, &table, i);

		if (d.flags & VRING_DESC_F_INDIRECT) {
			int rc = table_enter(r, &table, head, d);

			if (unlikely(rc < 0))
				return rc;
			limit = (uint32_t)rc;
			host = table.host;
			entries = table.count;
			i = 0;
			continue;
		}
		if (unlikely(d.len == 0))
			return device_ring_broken(r, RING_ZERO_LENGTH, head, count, 0);
		if (d.flags & VRING_DESC_F_WRITE) {
			seg->writable = 1;
			writable_bytes += d.len;
		} else {
			if (unlikely(writable_bytes)) /* a segment has at least one */
				return device_ring_broken(r, RING_READ_AFTER_WRITE, head, count, 0);
			seg->writable = 0;
			readable_bytes += d.len;
			readable++;
		}
		if (memory &&
		    unlikely(!memory_covers(memory, &r->memory_hint, (gpa_t){ d.addr }, d.len)))
			return device_ring_broken(r, RING_OUTSIDE_MEMORY, head, d.addr, d.len);
		seg->addr = (gpa_t){ d.addr };
		seg->len = d.len;
		seg++;
		count++;
		if (!(d.flags & VRING_DESC_F_NEXT))
			break;
		if (unlikely(count == limit))
			return device_ring_broken(r, RING_CHAIN_TOO_LONG, head, count, limit);
		if (unlikely(d.next >= entries))
			return device_ring_broken(r, RING_NEXT_RANGE, head, d.next, entries);
		i = d.next;
	}
	chain->count = count;
	chain->readable = readable;
	chain->readable_bytes = readable_bytes;
	chain->writable_bytes = writable_bytes;
	chain->head = head;
	return 1;
}

/*
 * Look for new chains.  1: there are some, and avail_seen tells how far.
 *
 * [avail-publish] acquire; peer: the driver's release store of avail->idx.
 * Before it, the driver wrote the avail entries and descriptors that we read
 * next (and the buffers that others read next); without the acquire, arm64 may
 * read them before the index and see the ring's last round.  x86 keeps loads
 * in order, the compiler does not.
 *
 * Two bounds make what follows safe.  New chains: an index further ahead than
 * the ring is long would make us read entries twice.  Outstanding chains: each
 * owns at least one descriptor until it is completed, so that more than `size`
 * is a lie too; callers size their tables of chains by this.
 */
static int avail_refresh(struct device_ring *r)
{
	uint16_t idx = shm_load16_acquire(&r->split.avail->idx);
	uint16_t ahead = (uint16_t)(idx - r->last_avail);
	uint16_t outstanding = (uint16_t)(idx - r->used_idx);

	if (ahead == 0)
		return 0;
	if (unlikely(ahead > r->split.size))
		return device_ring_broken(r, RING_AVAIL_JUMPED, 0, ahead, r->split.size);
	if (unlikely(outstanding > r->split.size))
		return device_ring_broken(r, RING_AVAIL_JUMPED, 0, outstanding, r->split.size);
	r->avail_seen = idx;
	return 1;
}

int device_ring_take(struct device_ring *r, struct ring_chain *chain)
{
	uint16_t head;
	int rc;

	if (unlikely(r->error.fault))
		return -EPROTO;
	if (r->last_avail == r->avail_seen) {
		rc = avail_refresh(r);
		if (rc <= 0)
			return rc;
	}
	head = shm_load16(&r->split.avail->ring[r->last_avail & (r->split.size - 1)]);
	if (unlikely(head >= r->split.size))
		return device_ring_broken(r, RING_HEAD_RANGE, head, head, r->split.size);
	rc = chain_walk(r, chain, head);
	if (likely(rc > 0))
		r->last_avail++;
	return rc;
}

int device_ring_reread(struct device_ring *r, uint16_t head, struct ring_chain *chain)
{
	assert(head < r->split.size); /* it was judged when it was taken */
	return unlikely(r->error.fault) ? -EPROTO : chain_walk(r, chain, head);
}

void device_ring_untake(struct device_ring *r, uint16_t count)
{
	assert(count <= device_ring_outstanding(r));
	r->last_avail = (uint16_t)(r->last_avail - count);
}

bool device_ring_has_avail(const struct device_ring *r)
{
	return r->last_avail != r->avail_seen || shm_load16(&r->split.avail->idx) != r->last_avail;
}

/* ---- completing ----------------------------------------------------------- */

/*
 * [used-publish] release; peer: the driver's acquire load of used->idx.
 * Before it: the used entries, and the bytes in the buffers, whether this
 * thread wrote them or saw them written behind an acquire of its own.  Without
 * it, arm64 may show the driver the index first, and it reads the entries of
 * the ring's last round.
 */
void device_ring_publish(struct device_ring *r)
{
	uint16_t old = r->used_published, now = r->used_idx;

	if (now == old)
		return;
	shm_store16_release(&r->split.used->idx, now);
	r->used_published = now;
	/* Nobody asked device_ring_must_call() for a whole turn of the index:
	 * the interval that it would judge has wrapped, so let it say yes. */
	if (unlikely((uint16_t)(now - r->used_signalled) < (uint16_t)(old - r->used_signalled))) {
		r->used_signalled_valid = false;
		r->used_signalled = old;
	}
}

/* ---- notifications -------------------------------------------------------- */

/*
 * [used-event] full fence; peer: the driver's fence between its wish (the word
 * used_event, or avail->flags) and its look at used->idx.
 *
 *	device (here)           driver
 *	used->idx = new         used_event = e
 *	fence                   fence
 *	read used_event         read used->idx
 *
 * One side at least sees the other's store: we call, or the driver stays
 * awake.  Release and acquire do not order a store before a later load, on
 * arm64 and on x86 alike; without the fence both can miss, and completions lie
 * in a ring that nobody looks at.
 */
bool device_ring_must_call(struct device_ring *r)
{
	uint16_t old = r->used_signalled, now = r->used_published;
	bool valid = r->used_signalled_valid;

	if (now == old)
		return false;
	shm_fence();
	r->used_signalled = now;
	r->used_signalled_valid = true;
	if (unlikely(!valid))
		return true;
	if (r->event_idx)
		return split_event_passed(shm_load16(split_used_event(&r->split)), now, old);
	return !(shm_load16(&r->split.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

/* With EVENT_IDX there is nothing to write: avail_event stays behind, and the
 * driver kicks only when its index passes it. */
void device_ring_disarm(struct device_ring *r)
{
	if (!r->event_idx)
		shm_store16(&r->split.used->flags, VRING_USED_F_NO_NOTIFY);
}

/*
 * [avail-event] full fence; peer: the driver's fence between its store of
 * avail->idx and its look at our wish.  The mirror image of [used-event]: the
 * driver sees the wish and kicks, or we see its chain here.
 */
bool device_ring_arm(struct device_ring *r)
{
	if (unlikely(r->error.fault))
		return true; /* the taker must hear of it */
	if (r->event_idx)
		shm_store16(split_avail_event(&r->split), r->last_avail);
	else
		shm_store16(&r->split.used->flags, 0);
	shm_fence();
	return shm_load16(&r->split.avail->idx) != r->last_avail;
}
