/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue of a test's disk: see queue.h. */
#include "queue.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include "base/error.h"

#define ID "umbra-blk-back"
#define HEADER 16u /* bytes of struct virtio_blk_outhdr */

static uint16_t load16(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static struct vring_avail *avail_of(const struct blk_queue *q)
{
	return q->ring.avail;
}

static struct vring_used *used_of(const struct blk_queue *q)
{
	return q->ring.used;
}

static struct blk_place place(const struct blk_queue *q, const struct blk_taken *about,
			      unsigned int count)
{
	return (struct blk_place){
		.hook = q->hook, .queue = q->index, .about = about, .about_count = count
	};
}

/* ---- taking ------------------------------------------------------------------ */

static void avail_event_store(struct blk_queue *q, const struct blk_place *at)
{
	if (q->event_idx)
		blk_store(at, BLK_AVAIL_EVENT, &used_of(q)->ring[q->ring.size], 2, q->last_avail);
}

static bool take_one(struct blk_queue *q)
{
	uint16_t head = load16(&avail_of(q)->ring[q->last_avail % q->ring.size]);
	struct blk_taken taken = { *q->numbers + 1, head };
	struct blk_place at = place(q, &taken, 1);
	uint64_t value = head;

	if (head >= q->ring.size) {
		q->running = false;
		return error_set(&q->broken, false, "avail entry %u is head %u; the ring has %u",
				 q->last_avail, head, q->ring.size);
	}
	(*q->numbers)++;
	if (q->region)
		blk_region_take(q->region, &at, head, q->counter++);
	(void)blk_before(&at, BLK_TAKE, &value);
	q->last_avail++;
	q->taken[q->taken_count++] = taken;
	blk_after(&at, BLK_TAKE, value);
	avail_event_store(q, &at);
	return true;
}

/* Everything that there is and may be. */
static void take_all(struct blk_queue *q)
{
	while (!q->takes_no_more) {
		uint16_t there = (uint16_t)(load16(&avail_of(q)->idx) - q->last_avail);

		if (there > q->ring.size) {
			q->running = false;
			(void)error_set(
				&q->broken, 0,
				"the avail index is %u past what was taken; the ring has %u", there,
				q->ring.size);
			return;
		}
		for (; there; there--)
			if ((q->options->depth && q->taken_count >= q->options->depth) ||
			    q->taken_count >= q->ring.size || !take_one(q))
				return;
		/* [avail-event] full fence; peer: the driver's between its avail index and its
		 * look at our event.  Store the event, then look once more: either we see its
		 * index, or it sees our event, and kicks. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (load16(&avail_of(q)->idx) == q->last_avail)
			return;
	}
}

/* ---- a request's buffers ------------------------------------------------------- */

static bool chain_add(struct blk_queue *q, const struct vring_desc *d)
{
	struct blk_chain *c = &q->chain;
	uint32_t len = le32toh(d->len);
	uint8_t *p = q->memory->find(q->memory->opaque, le64toh(d->addr), len);
	bool writable = le16toh(d->flags) & VRING_DESC_F_WRITE;

	if (!p || (!writable && c->writable_bytes))
		return error_set(&q->broken, false, "a buffer of %u bytes at 0x%lx %s", len,
				 (unsigned long)le64toh(d->addr),
				 p ? "is readable, behind a writable one" : "is in no region");
	if (c->count == c->segs_max) {
		unsigned int max = c->segs_max ? 2 * c->segs_max : 8;
		struct blk_seg *segs = reallocarray(c->segs, max, sizeof(*segs));

		if (!segs)
			abort();
		c->segs = segs;
		c->segs_max = max;
	}
	c->segs[c->count++] = (struct blk_seg){ p, len };
	*(writable ? &c->writable_bytes : &c->readable_bytes) += len;
	c->readable += !writable;
	return true;
}

static bool chain_walk(struct blk_queue *q, const struct vring_desc *table, uint32_t size,
		       uint16_t at)
{
	for (uint32_t steps = 0; steps < size && at < size; steps++) {
		struct vring_desc d = table[at];
		uint16_t flags = le16toh(d.flags);
		uint32_t len = le32toh(d.len);

		if (flags & VRING_DESC_F_INDIRECT) {
			const void *inner =
				q->memory->find(q->memory->opaque, le64toh(d.addr), len);

			if (table != q->ring.desc || !inner || len < sizeof(d))
				return error_set(&q->broken, false,
						 "an indirect table of %u bytes at 0x%lx", len,
						 (unsigned long)le64toh(d.addr));
			return chain_walk(q, inner, len / sizeof(d), 0);
		}
		if (!chain_add(q, &d))
			return false;
		if (!(flags & VRING_DESC_F_NEXT))
			return true;
		at = le16toh(d.next);
	}
	return error_set(&q->broken, false, "a chain leads out of its table of %u, or round in it",
			 size);
}

static bool chain_find(struct blk_queue *q, uint16_t head)
{
	struct blk_chain *c = &q->chain;

	c->count = c->readable = 0;
	c->readable_bytes = c->writable_bytes = 0;
	if (!chain_walk(q, q->ring.desc, q->ring.size, head))
		return false;
	if (c->readable_bytes < HEADER || !c->writable_bytes)
		return error_set(
			&q->broken, false, "a request with %lu bytes to read and %lu to write",
			(unsigned long)c->readable_bytes, (unsigned long)c->writable_bytes);
	return true;
}

/* Copy @len bytes between @data and the bytes from @offset on of a chain's readable (or
 * writable) ones. */
static void chain_copy(const struct blk_chain *c, bool writable, uint64_t offset, uint8_t *data,
		       uint64_t len)
{
	unsigned int i = writable ? c->readable : 0, end = writable ? c->count : c->readable;

	for (; i < end && len; i++) {
		uint64_t here;

		if (offset >= c->segs[i].len) {
			offset -= c->segs[i].len;
			continue;
		}
		here = c->segs[i].len - offset < len ? c->segs[i].len - offset : len;
		if (writable)
			memcpy(c->segs[i].p + offset, data, here);
		else
			memcpy(data, c->segs[i].p + offset, here);
		data += here;
		len -= here;
		offset = 0;
	}
}

/* ---- executing ------------------------------------------------------------------- */

static uint8_t execute_write(struct blk_queue *q, const struct blk_place *at,
			     const struct blk_chain *c, uint64_t sector)
{
	uint64_t count = (c->readable_bytes - HEADER) / BLK_SECTOR;
	uint8_t data[BLK_SECTOR];

	if (sector > q->disk->sectors || count > q->disk->sectors - sector)
		return VIRTIO_BLK_S_IOERR;
	for (uint64_t i = 0; i < count; i++) {
		chain_copy(c, false, HEADER + i * BLK_SECTOR, data, BLK_SECTOR);
		if (!blk_disk_write(q->disk, at, sector + i, data))
			return VIRTIO_BLK_S_IOERR;
	}
	return VIRTIO_BLK_S_OK;
}

static uint8_t execute_read(struct blk_queue *q, const struct blk_place *at,
			    const struct blk_chain *c, uint64_t sector)
{
	uint64_t count = (c->writable_bytes - 1) / BLK_SECTOR;
	uint8_t data[BLK_SECTOR] = { 0 };

	if (sector > q->disk->sectors || count > q->disk->sectors - sector)
		return VIRTIO_BLK_S_IOERR;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t lie = 0;

		if (!blk_disk_read(q->disk, at, sector + i, data))
			return VIRTIO_BLK_S_IOERR;
		if (blk_before(at, BLK_GUEST_DATA, &lie)) {
			for (unsigned int b = 0; b < BLK_SECTOR; b++)
				data[b] ^= (uint8_t)lie;
			chain_copy(c, true, i * BLK_SECTOR, data, BLK_SECTOR);
		}
		blk_after(at, BLK_GUEST_DATA, lie);
	}
	return VIRTIO_BLK_S_OK;
}

static uint8_t execute_id(const struct blk_chain *c)
{
	char id[VIRTIO_BLK_ID_BYTES] = ID;

	if (c->writable_bytes <= sizeof(id))
		return VIRTIO_BLK_S_IOERR;
	chain_copy(c, true, 0, (uint8_t *)id, sizeof(id));
	return VIRTIO_BLK_S_OK;
}

/* Returns the bytes that were written. */
static uint32_t execute(struct blk_queue *q, const struct blk_place *at, const struct blk_chain *c)
{
	struct virtio_blk_outhdr header;
	uint64_t status;
	uint32_t type;
	uint8_t byte;

	chain_copy(c, false, 0, (uint8_t *)&header, sizeof(header));
	type = le32toh(header.type);
	switch (type) {
	case VIRTIO_BLK_T_OUT:
		status = execute_write(q, at, c, le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_IN:
		status = execute_read(q, at, c, le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_FLUSH:
		status = blk_disk_flush(q->disk, at) ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
		break;
	case VIRTIO_BLK_T_GET_ID:
		status = execute_id(c);
		break;
	default:
		status = VIRTIO_BLK_S_UNSUPP;
	}
	if (blk_before(at, BLK_GUEST_STATUS, &status)) {
		byte = (uint8_t)status;
		chain_copy(c, true, c->writable_bytes - 1, &byte, 1);
	}
	blk_after(at, BLK_GUEST_STATUS, status);
	return type == VIRTIO_BLK_T_OUT ? 1 : (uint32_t)c->writable_bytes;
}

/* ---- completing -------------------------------------------------------------------- */

static void must_call(struct blk_queue *q)
{
	struct blk_place at = place(q, q->batch, q->batch_count);
	uint16_t old = q->call_idx, event;
	uint64_t value = 1;
	bool wanted;

	/* [used-event] full fence; peer: the driver's between its used_event (or flags) and its
	 * look at our index. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = load16(&avail_of(q)->ring[q->ring.size]);
	wanted = q->event_idx ? (uint16_t)(q->used_idx - event - 1) < (uint16_t)(q->used_idx - old)
			      : !(load16(&avail_of(q)->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	q->call_idx = q->used_idx;
	if (!wanted)
		return;
	if (blk_before(&at, BLK_CALL, &value) && q->call_fd >= 0 &&
	    write(q->call_fd, &value, sizeof(value)) < 0 && errno != EAGAIN)
		(void)error_set(&q->broken, 0, "the call eventfd: %s", strerror(errno));
	blk_after(&at, BLK_CALL, value);
}

static void publish(struct blk_queue *q)
{
	struct blk_place at = place(q, q->batch, q->batch_count);

	if (!q->batch_count)
		return;
	q->used_idx = (uint16_t)(q->used_idx + q->batch_count);
	blk_store(&at, BLK_USED_IDX, &used_of(q)->idx, 2, q->used_idx);
	if (q->region)
		blk_region_publish(q->region, &at, q->used_idx);
	must_call(q);
	q->batch_count = 0;
}

static void complete(struct blk_queue *q, const struct blk_taken *taken, uint32_t len)
{
	struct blk_place at = place(q, taken, 1);
	struct vring_used_elem *e =
		&used_of(q)->ring[(uint16_t)(q->used_idx + q->batch_count) % q->ring.size];

	blk_store(&at, BLK_USED_ID, &e->id, 4, taken->head);
	blk_store(&at, BLK_USED_LEN, &e->len, 4, len);
	if (q->region)
		blk_region_batch(q->region, &at, taken->head);
	q->batch[q->batch_count++] = *taken;
	if (q->batch_count == q->options->batch)
		publish(q);
}

/* It waits for blk_queue_release(). */
static void keep(struct blk_queue *q, const struct blk_taken *taken)
{
	struct blk_kept *kept = reallocarray(q->kept, q->kept_count + 1, sizeof(*kept));

	if (!kept)
		abort();
	q->kept = kept;
	kept[q->kept_count++] = (struct blk_kept){ *taken, q->chain };
	memset(&q->chain, 0, sizeof(q->chain));
}

/* Which of the taken ones is the next. */
static unsigned int choose(struct blk_queue *q)
{
	if (q->options->order == BLK_ORDER_IN)
		return 0;
	if (q->options->order == BLK_ORDER_REVERSE)
		return q->taken_count - 1;
	q->random = q->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned int)((q->random >> 33) % q->taken_count);
}

static void serve_one(struct blk_queue *q)
{
	unsigned int i = choose(q);
	struct blk_taken taken = q->taken[i];
	struct blk_place at = place(q, &taken, 1);
	struct virtio_blk_outhdr header;
	struct blk_point p;

	q->taken_count--;
	memmove(&q->taken[i], &q->taken[i + 1], (q->taken_count - i) * sizeof(*q->taken));
	if (!chain_find(q, taken.head)) {
		q->running = false;
		return;
	}
	chain_copy(&q->chain, false, 0, (uint8_t *)&header, sizeof(header));
	p = (struct blk_point){ .store = BLK_EXECUTE,
				.queue = q->index,
				.value = le32toh(header.type),
				.sector = le64toh(header.sector),
				.about = &taken,
				.about_count = 1 };
	if (q->hook->reach(q->hook->opaque, &p) == BLK_KEEP) {
		keep(q, &taken);
		return;
	}
	{
		uint32_t len = execute(q, &at, &q->chain);

		blk_after(&at, BLK_EXECUTE, p.value);
		complete(q, &taken, len);
	}
}

/* ---- entry points -------------------------------------------------------------------- */

int blk_queue_start(struct blk_queue *q, uint16_t base, struct umbra_error *err)
{
	struct blk_place at = place(q, NULL, 0);
	uint16_t *heads;
	int count;

	free(q->taken);
	free(q->batch);
	q->taken_count = q->batch_count = 0;
	q->taken = calloc(q->ring.size, sizeof(*q->taken));
	q->batch = calloc(q->ring.size, sizeof(*q->batch));
	if (!q->taken || !q->batch)
		return error_set(err, -ENOMEM, "no memory for a queue of %u", q->ring.size);
	q->random = q->options->seed + q->index;
	q->used_idx = q->call_idx = load16(&used_of(q)->idx);
	q->last_avail = base;
	q->running = true;
	if (!q->region)
		return 0;
	/* In `batch`, which has the room, so that a hook may leave by longjmp(). */
	heads = (uint16_t *)q->batch;
	count = blk_region_begin(q->region, &at, q->ring.size, q->used_idx, heads, &q->counter,
				 err);
	if (count < 0) {
		q->running = false;
		return count;
	}
	for (int i = 0; i < count; i++)
		q->taken[q->taken_count++] = (struct blk_taken){ ++*q->numbers, heads[i] };
	if (count)
		q->last_avail = (uint16_t)(q->used_idx + count);
	return 0;
}

void blk_queue_serve(struct blk_queue *q)
{
	while (q->running) {
		take_all(q);
		if (!q->taken_count)
			break;
		while (q->running && q->taken_count)
			serve_one(q);
		publish(q);
	}
}

uint16_t blk_queue_stop(struct blk_queue *q)
{
	q->running = false;
	return q->last_avail;
}

void blk_queue_release(struct blk_queue *q)
{
	while (q->kept_count) {
		struct blk_kept k = q->kept[--q->kept_count];
		struct blk_place at = place(q, &k.taken, 1);
		uint32_t len;

		/* So that it is freed whatever the hook does. */
		free(q->chain.segs);
		q->chain = k.chain;
		len = execute(q, &at, &q->chain);
		blk_after(&at, BLK_EXECUTE, 0);
		if (q->ring.used)
			complete(q, &k.taken, len);
	}
	if (q->ring.used)
		publish(q);
}

void blk_queue_forget(struct blk_queue *q)
{
	for (unsigned int i = 0; i < q->kept_count; i++)
		free(q->kept[i].chain.segs);
	free(q->kept);
	free(q->chain.segs);
	free(q->taken);
	free(q->batch);
	q->kept = NULL;
	q->taken = q->batch = NULL;
	q->kept_count = q->taken_count = q->batch_count = 0;
	memset(&q->chain, 0, sizeof(q->chain));
	q->running = false;
}
