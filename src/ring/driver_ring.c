/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The driver's role on a split ring: see driver_ring.h.
 *
 * Slots.  One per descriptor, private.  A free descriptor's slot links to the
 * next free one.  The slot of a chain's first descriptor (its head, which is
 * also the chain's id on the ring) describes the chain; count != 0 there, and
 * only there, says "this head is in flight".  A chain's slots stay linked, so
 * that all of them return to the free list in one step.
 *
 * IN_ORDER obliges the driver to use descriptors in ring order (virtio 1.2,
 * 2.7.5.2).  Then the links are never changed after init: slot i links to
 * i + 1, what is free is one stretch of the circle that begins at free_head,
 * and freeing is counting.
 *
 * Where hostile bytes become trusted: used->idx in used_refresh(), an entry's
 * id and length in entry_read().
 */
#include "ring/driver_ring.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/shm.h"
#include "ring/split_look.h"

/*
 * Indirect tables.  Sixteen descriptors hold the usual request (a network
 * packet of a few fragments, a disk request of a dozen pages) and make a small
 * table 4 cache lines.  They get a mebibyte at the most; only those of a ring of
 * 32768 take two, so as to hold 4 descriptors each.
 *
 * The back-end maps all of it, and may lock what it maps, so the other two classes
 * get a quarter of a mebibyte each: on a ring of 256, 64 requests of up to a
 * mebibyte of single pages at a time; of tables of 2048 descriptors, eight.  Two at
 * the least: one that is being filled while the other is served.
 */
#define SMALL_LEN 16u /* descriptors */
#define SMALL_LEN_LEAST 4u
#define SMALL_BYTES_MAX (1u << 20)
#define LARGE_BYTES_MAX (1u << 18)
#define LONG_BYTES_MAX (1u << 18)
#define LONG_COUNT_LEAST 2u
#define DESC_BYTES 16u

#define NO_TABLE                                                                                   \
	UINT16_MAX /* a ring has no more than LARGE_BYTES_MAX / DESC_BYTES tables of each */

struct driver_slot {
	uint64_t token;
	uint32_t writable; /* the chain's writable bytes; at the most UINT32_MAX */
	uint16_t count;    /* descriptors that the chain owns in the ring; 0: no head in flight */
	uint16_t next;     /* next descriptor of the chain, or next free one */
	uint16_t last;     /* last descriptor of the chain */
	uint16_t table;    /* large or (from large_count on) long table of the chain, or NO_TABLE */
	uint16_t added;    /* avail index that the chain was added at */
};

static int driver_ring_broken(struct driver_ring *r, enum ring_fault fault, uint32_t id,
			      uint64_t limit)
{
	r->error = (struct ring_error){ .fault = fault,
					.head = id <= UINT16_MAX ? (uint16_t)id : 0,
					.value = id,
					.limit = limit };
	return -EPROTO;
}

/* ---- layout --------------------------------------------------------------- */

struct driver_layout driver_ring_layout(uint16_t size, uint64_t features, uint32_t table_max)
{
	struct driver_layout l = { .ring = split_offsets(size), .longest = size };
	bool indirect = features & BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	uint32_t small = 0, large = 0, count = 0;

	/* A chain of one segment needs no table. */
	if (indirect && size > 1) {
		small = MAX(SMALL_BYTES_MAX / DESC_BYTES / size, SMALL_LEN_LEAST);
		small = MIN(MIN(small, SMALL_LEN), size);
		large = small == size ? 0 : MIN(LARGE_BYTES_MAX / DESC_BYTES / size, size);
	}
	if (indirect && table_max > size) {
		l.longest = MIN(table_max, SPLIT_SIZE_MAX);
		count = MAX(LONG_BYTES_MAX / DESC_BYTES / l.longest, LONG_COUNT_LEAST);
		count = MIN(count, size);
	}
	l.small_len = (uint16_t)small;
	l.large_count = (uint16_t)large;
	l.long_count = (uint16_t)count;
	l.small_tables = l.ring.total;
	l.large_tables = l.small_tables + (size_t)DESC_BYTES * small * size;
	l.long_tables = l.large_tables + (size_t)DESC_BYTES * large * size;
	l.shared_bytes = l.long_tables + (size_t)DESC_BYTES * count * l.longest;
	l.private_bytes = size * (sizeof(struct driver_slot) + sizeof(uint16_t)) +
			  (large + count) * sizeof(uint16_t);
	return l;
}

int driver_ring_init(struct driver_ring *r, const struct driver_ring_config *config)
{
	uint16_t size = config->size, base = config->base.avail;
	uint8_t *shared = config->shared;
	struct driver_layout l;

	if (!is_power_of_two(size) || size > SPLIT_SIZE_MAX)
		return -EINVAL;
	l = driver_ring_layout(size, config->features, config->table_max);
	memset(shared, 0, l.ring.total);
	*r = (struct driver_ring){
		.split = { .desc = (void *)(shared + l.ring.desc),
			   .avail = (void *)(shared + l.ring.avail),
			   .used = (void *)(shared + l.ring.used),
			   .size = size },
		.shared_addr = config->shared_addr,
		.layout = l,
		.event_idx = config->features & BIT64(VIRTIO_RING_F_EVENT_IDX),
		.indirect = config->features & BIT64(VIRTIO_RING_F_INDIRECT_DESC),
		.in_order = config->features & BIT64(VIRTIO_F_IN_ORDER),
		.avail_idx = base,
		.avail_published = base,
		.avail_signalled = base,
		.last_used = base,
		.used_seen = base,
		.free_count = size,
		.large_free_count = l.large_count,
		.long_free_head = l.large_count,
		.long_free_count = l.long_count,
		.slots = config->private,
		.small_tables = (void *)(shared + l.small_tables),
		.large_tables = (void *)(shared + l.large_tables),
	};
	r->order = (uint16_t *)(r->slots + size);
	r->table_next = r->order + size;
	for (uint32_t i = 0; i < size; i++) {
		r->slots[i] = (struct driver_slot){ .next = (uint16_t)((i + 1) & (size - 1u)) };
		r->order[i] = 0;
	}
	for (uint32_t i = 0; i < l.large_count + (uint32_t)l.long_count; i++)
		r->table_next[i] = (uint16_t)(i + 1);
	shm_store16(&r->split.avail->idx, base);
	shm_store16(&r->split.used->idx, base);
	return 0;
}

void driver_ring_adopt(struct driver_ring *r, const uint16_t *ids, uint16_t count, uint64_t token)
{
	uint16_t size = r->split.size, last = ids[count - 1];

	r->last_used = r->used_seen = (uint16_t)(r->avail_idx - count);
	for (uint16_t i = 0; i < count; i++) {
		uint16_t at = (uint16_t)(r->last_used + i);

		r->slots[ids[i]] = (struct driver_slot){
			.token = token,
			.count = 1,
			.next = i + 1 < count ? ids[i + 1] : ids[0],
			.last = ids[i],
			.table = NO_TABLE,
			.added = at,
		};
		r->order[at & (size - 1)] = ids[i];
		shm_store16(&r->split.avail->ring[at & (size - 1)], ids[i]);
	}
	/* The free ones in a circle with these, which IN_ORDER frees first. */
	for (uint32_t i = 0; i < size; i++) {
		if (r->slots[i].count)
			continue;
		r->slots[last].next = (uint16_t)i;
		last = (uint16_t)i;
	}
	r->free_head = r->slots[ids[count - 1]].next;
	r->slots[last].next = ids[0];
	r->free_count = (uint16_t)(size - count);
	shm_store16(&r->split.used->idx, r->last_used);
}

/* ---- adding --------------------------------------------------------------- */

static inline uint16_t seg_flags(const struct driver_seg *seg)
{
	return seg->writable ? VRING_DESC_F_WRITE : 0;
}

/* One descriptor per segment.  Returns the chain's last descriptor. */
static uint16_t write_direct(struct driver_ring *r, uint16_t head, const struct driver_seg *segs,
			     uint32_t count)
{
	uint16_t at = head;

	for (uint32_t i = 0;; i++) {
		bool more = i + 1 < count;
		uint16_t next = r->slots[at].next;

		split_desc_store(&r->split.desc[at],
				 (struct split_desc_copy){
					 .addr = segs[i].addr.v,
					 .len = segs[i].len,
					 .flags = (uint16_t)(seg_flags(&segs[i]) |
							     (more ? VRING_DESC_F_NEXT : 0)),
					 .next = more ? next : 0 });
		if (!more)
			return at;
		at = next;
	}
}

/* All segments in @table, and one descriptor that refers to it. */
static void write_indirect(struct driver_ring *r, uint16_t head, struct split_desc *table,
			   const struct driver_seg *segs, uint32_t count)
{
	size_t offset = (size_t)((uint8_t *)table - (uint8_t *)r->split.desc);

	for (uint32_t i = 0; i < count; i++) {
		bool more = i + 1 < count;

		split_desc_store(&table[i],
				 (struct split_desc_copy){
					 .addr = segs[i].addr.v,
					 .len = segs[i].len,
					 .flags = (uint16_t)(seg_flags(&segs[i]) |
							     (more ? VRING_DESC_F_NEXT : 0)),
					 .next = more ? (uint16_t)(i + 1) : 0 });
	}
	split_desc_store(&r->split.desc[head],
			 (struct split_desc_copy){ .addr = r->shared_addr.v + offset,
						   .len = count * DESC_BYTES,
						   .flags = VRING_DESC_F_INDIRECT });
}

/*
 * A chain of no segments, or longer than the ring: into a long table, which becomes *@table.
 * Returns as driver_ring_add().
 */
static __attribute__((cold, noinline)) int add_long(struct driver_ring *r, uint16_t head,
						    const struct driver_seg *segs, uint32_t count,
						    uint16_t *table)
{
	uint32_t at;

	if (count == 0)
		return -EINVAL;
	if (count > r->layout.longest)
		return -EMSGSIZE;
	if (!r->free_count || !r->long_free_count)
		return 0;
	*table = r->long_free_head;
	r->long_free_head = r->table_next[*table];
	r->long_free_count--;
	at = *table - (uint32_t)r->layout.large_count;
	write_indirect(r, head,
		       (void *)((uint8_t *)r->split.desc + r->layout.long_tables +
				(size_t)DESC_BYTES * at * r->layout.longest),
		       segs, count);
	return 1;
}

int driver_ring_add_summed(struct driver_ring *r, const struct driver_seg *segs, uint32_t count,
			   uint32_t writable, uint64_t token)
{
	uint16_t head = r->free_head, last = head, table = NO_TABLE, taken = 1;
	struct driver_slot *slot;

	if (unlikely(r->error.fault))
		return -EPROTO;
	if (unlikely(count - 1 >= r->split.size)) { /* none, too, wraps to many */
		int rc = add_long(r, head, segs, count, &table);

		if (rc <= 0)
			return rc;
	} else if (unlikely(r->free_count == 0)) {
		return 0;
	} else if (count > 1 && count <= r->layout.small_len) {
		write_indirect(r, head, r->small_tables + (size_t)head * r->layout.small_len, segs,
			       count);
	} else if (count > 1 && r->large_free_count) {
		table = r->large_free_head;
		r->large_free_head = r->table_next[table];
		r->large_free_count--;
		write_indirect(r, head, r->large_tables + (size_t)table * r->split.size, segs,
			       count);
	} else {
		if (unlikely(count > r->free_count))
			return 0;
		last = write_direct(r, head, segs, count);
		taken = (uint16_t)count;
	}
	slot = &r->slots[head];
	slot->token = token;
	slot->writable = writable;
	slot->count = taken;
	slot->last = last;
	slot->table = table;
	slot->added = r->avail_idx;
	r->free_head = r->slots[last].next;
	r->free_count = (uint16_t)(r->free_count - taken);
	r->order[r->avail_idx & (r->split.size - 1)] = head;
	shm_store16(&r->split.avail->ring[r->avail_idx & (r->split.size - 1)], head);
	r->avail_idx++;
	return 1;
}

/*
 * [avail-publish] release; peer: the device's acquire load of avail->idx.
 * Before it: descriptors, indirect tables, avail entries, and the buffers'
 * bytes; without it arm64 may show the device the index first, and it walks
 * descriptors of an older chain.  Also before it: our reads of used entries,
 * which the device may overwrite once it sees the chains that replace them.
 */
void driver_ring_publish(struct driver_ring *r)
{
	uint16_t old = r->avail_published, now = r->avail_idx;

	if (now == old)
		return;
	shm_store16_release(&r->split.avail->idx, now);
	r->avail_published = now;
	/* Nobody asked driver_ring_must_kick() for a whole turn of the index:
	 * the interval that it would judge has wrapped, so let it say yes. */
	if (unlikely((uint16_t)(now - r->avail_signalled) < (uint16_t)(old - r->avail_signalled))) {
		r->avail_signalled_valid = false;
		r->avail_signalled = old;
	}
}

/* ---- freeing -------------------------------------------------------------- */

static void table_free(struct driver_ring *r, uint16_t table)
{
	if (likely(table < r->layout.large_count)) {
		r->table_next[table] = r->large_free_head;
		r->large_free_head = table;
		r->large_free_count++;
	} else {
		r->table_next[table] = r->long_free_head;
		r->long_free_head = table;
		r->long_free_count++;
	}
}

static inline void chain_free(struct driver_ring *r, uint16_t head)
{
	struct driver_slot *slot = &r->slots[head];

	r->free_count = (uint16_t)(r->free_count + slot->count);
	slot->count = 0;
	if (unlikely(slot->table != NO_TABLE))
		table_free(r, slot->table);
	if (!r->in_order) {
		r->slots[slot->last].next = r->free_head;
		r->free_head = head;
	}
}

/* ---- getting -------------------------------------------------------------- */

/*
 * Look for more used chains.  1: there are some, and used_seen tells how far.
 *
 * [used-publish] acquire; peer: the device's release store of used->idx.
 * Before it, the device wrote the used entries and the buffers.  Without it,
 * arm64 may read them first and see the ring's last round.  It is one atomic
 * load on each call, which no compiler may lift out of a caller's loop.
 *
 * The device cannot have used more than it was shown, nor take back what it
 * has used.
 */
static int used_refresh(struct driver_ring *r)
{
	uint16_t idx = shm_load16_acquire(&r->split.used->idx);
	uint16_t ahead = (uint16_t)(idx - r->last_used);
	uint16_t seen = (uint16_t)(r->used_seen - r->last_used);
	uint16_t shown = (uint16_t)(r->avail_published - r->last_used);

	if (ahead == seen)
		return 0;
	if (unlikely(ahead > shown || ahead < seen))
		return driver_ring_broken(r, RING_USED_JUMPED, ahead, shown);
	r->used_seen = idx;
	return 1;
}

/* Added, but not yet shown to the device.  The look at the order rules out a
 * chain so old that its 16-bit index looks new. */
static inline bool is_unpublished(const struct driver_ring *r, uint16_t head)
{
	uint16_t added = r->slots[head].added;

	return unlikely((uint16_t)(added - r->avail_published) <
			(uint16_t)(r->avail_idx - r->avail_published)) &&
	       r->order[added & (r->split.size - 1)] == head;
}

/* Copy the used entry at last_used and judge its id. */
static inline int entry_read(struct driver_ring *r, uint16_t *head, uint32_t *len)
{
	const struct split_used_elem *e = &r->split.used->ring[r->last_used & (r->split.size - 1)];
	uint32_t id = shm_load32(&e->id);

	*len = shm_load32(&e->len);
	if (unlikely(id >= r->split.size))
		return driver_ring_broken(r, RING_USED_ID_RANGE, id, r->split.size);
	if (unlikely(r->slots[id].count == 0 || is_unpublished(r, (uint16_t)id)))
		return driver_ring_broken(r, RING_USED_NOT_IN_FLIGHT, id, 0);
	*head = (uint16_t)id;
	return 1;
}

/*
 * With IN_ORDER one entry stands for all chains up to the one that it names
 * (virtio 1.2, 2.7.9), and the next entry is written behind as many places.
 * How many those are is told by the place of the named chain in the order of
 * adding: no search, whatever the device writes.
 */
static int batch_read(struct driver_ring *r)
{
	uint16_t head, batch, seen = (uint16_t)(r->used_seen - r->last_used);
	uint32_t len;
	int rc = entry_read(r, &head, &len);

	if (unlikely(rc < 0))
		return rc;
	batch = (uint16_t)(r->slots[head].added - r->last_used);
	if (unlikely(batch >= seen))
		return driver_ring_broken(r, RING_USED_OUT_OF_ORDER, head, seen);
	r->in_order_left = (uint16_t)(batch + 1);
	r->in_order_len = len;
	return 1;
}

static int get_in_order(struct driver_ring *r, uint16_t *head, uint32_t *len)
{
	if (r->in_order_left == 0) {
		int rc = batch_read(r);

		if (unlikely(rc < 0))
			return rc;
	}
	*head = r->order[r->last_used & (r->split.size - 1)];
	r->in_order_left--;
	*len = r->in_order_left ? r->slots[*head].writable : r->in_order_len;
	return 1;
}

int driver_ring_get(struct driver_ring *r, struct driver_done *done)
{
	const struct driver_slot *slot;
	uint16_t head;
	uint32_t len;
	int rc;

	if (unlikely(r->error.fault))
		return -EPROTO;
	if (r->last_used == r->used_seen) {
		rc = used_refresh(r);
		if (rc <= 0)
			return rc;
	}
	rc = unlikely(r->in_order) ? get_in_order(r, &head, &len) : entry_read(r, &head, &len);
	if (unlikely(rc < 0))
		return rc;
	slot = &r->slots[head];
	done->token = slot->token;
	done->clamped = len > slot->writable;
	done->len = MIN(len, slot->writable);
	chain_free(r, head);
	r->last_used++;
	return 1;
}

/* ---- taking back ---------------------------------------------------------- */

/*
 * The chains from avail index (avail_idx - @count) on must all be in flight.
 * A head that came back and was added again has a newer index in its slot.
 */
static bool newest_are_in_flight(const struct driver_ring *r, uint16_t count)
{
	for (uint16_t n = 1; n <= count; n++) {
		uint16_t index = (uint16_t)(r->avail_idx - n);
		const struct driver_slot *slot = &r->slots[r->order[index & (r->split.size - 1)]];

		if (slot->count == 0 || slot->added != index)
			return false;
	}
	return true;
}

int driver_ring_unadd(struct driver_ring *r, uint16_t count)
{
	uint16_t unpublished = (uint16_t)(r->avail_idx - r->avail_published);

	if (r->error.fault)
		return -EPROTO;
	if (used_refresh(r) < 0)
		return -EPROTO;
	if (count > (uint16_t)(r->avail_idx - r->used_seen) || !newest_are_in_flight(r, count))
		return -EINVAL;
	for (uint16_t n = 0; n < count; n++) {
		uint16_t head;

		r->avail_idx--;
		head = r->order[r->avail_idx & (r->split.size - 1)];
		chain_free(r, head);
		r->free_head = head; /* what IN_ORDER needs, and the list has anyway */
	}
	if (count > unpublished) {
		/* Relaxed would do: the device is stopped, and the message that
		 * starts it again orders more than this store. */
		shm_store16_release(&r->split.avail->idx, r->avail_idx);
		r->avail_published = r->avail_idx;
		/* What stays published may not have been asked about, and the
		 * device that goes on is not the one that armed: kick it. */
		r->avail_signalled = (uint16_t)(r->avail_idx - 1);
		r->avail_signalled_valid = false;
	}
	return 0;
}

bool driver_ring_peek(const struct driver_ring *r, uint16_t head, uint64_t *token, uint16_t *age)
{
	const struct driver_slot *slot = &r->slots[head];

	if (!slot->count)
		return false;
	*token = slot->token;
	/* Chains that stay while others come and go lose their place in the order. */
	*age = r->order[slot->added & (r->split.size - 1)] == head
		       ? (uint16_t)(r->avail_idx - slot->added)
		       : UINT16_MAX;
	return true;
}

struct ring_position driver_ring_said(const struct driver_ring *r)
{
	struct ring_position said = split_said(&r->split);

	said.avail = r->avail_published; /* and not what the device may have written there */
	return said;
}

bool driver_ring_has_used(const struct driver_ring *r)
{
	return r->last_used != r->used_seen || shm_load16(&r->split.used->idx) != r->last_used;
}

/* ---- notifications -------------------------------------------------------- */

/*
 * [avail-event] full fence; peer: the device's fence between its wish (the
 * word avail_event, or used->flags) and its look at avail->idx.
 *
 *	driver (here)           device
 *	avail->idx = new        avail_event = e
 *	fence                   fence
 *	read avail_event        read avail->idx
 *
 * One side at least sees the other's store: we kick, or the device stays
 * awake.  Release and acquire do not order a store before a later load, on
 * arm64 and on x86 alike; without the fence both can miss, and a chain waits
 * for a device that sleeps.
 */
bool driver_ring_must_kick(struct driver_ring *r)
{
	uint16_t old = r->avail_signalled, now = r->avail_published;
	bool valid = r->avail_signalled_valid;

	if (now == old)
		return false;
	shm_fence();
	r->avail_signalled = now;
	r->avail_signalled_valid = true;
	if (unlikely(!valid))
		return true;
	if (r->event_idx)
		return split_event_passed(shm_load16(split_avail_event(&r->split)), now, old);
	return !(shm_load16(&r->split.used->flags) & VRING_USED_F_NO_NOTIFY);
}

/* With EVENT_IDX there is nothing to write: used_event stays behind, and the
 * device calls only when its index passes it. */
void driver_ring_disarm(struct driver_ring *r)
{
	if (!r->event_idx)
		shm_store16(&r->split.avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

/*
 * [used-event] full fence; peer: the device's fence between its store of
 * used->idx and its look at our wish.  The mirror image of [avail-event]: the
 * device sees the wish and calls, or we see its used chain here.
 */
void driver_ring_silence(struct driver_ring *r)
{
	/* As far from where the device is as an index can be: at most 32768 chains are in
	 * flight, so none of their completions crosses it. */
	if (r->event_idx)
		shm_store16(split_used_event(&r->split), (uint16_t)(r->last_used + 0x8000u));
	else
		shm_store16(&r->split.avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

bool driver_ring_arm(struct driver_ring *r)
{
	if (unlikely(r->error.fault))
		return true; /* the getter must hear of it */
	if (r->event_idx)
		shm_store16(split_used_event(&r->split), r->last_used);
	else
		shm_store16(&r->split.avail->flags, 0);
	shm_fence();
	return driver_ring_has_used(r);
}
