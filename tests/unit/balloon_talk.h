/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the tests of the balloon device say to it, from negotiation to a message and
 * its answer.
 */
#ifndef UMBRA_TESTS_BALLOON_TALK_H
#define UMBRA_TESTS_BALLOON_TALK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>

#include "balloon_rig.h"
#include "base/bits.h"

#define BASIC BIT64(VIRTIO_F_VERSION_1)
#define MUST_TELL BIT64(VIRTIO_BALLOON_F_MUST_TELL_HOST)
#define STATS BIT64(VIRTIO_BALLOON_F_STATS_VQ)
#define POISON BIT64(VIRTIO_BALLOON_F_PAGE_POISON)
#define REPORTING BIT64(VIRTIO_BALLOON_F_REPORTING)
#define BITMAP BIT64(PAGE_RUN_FEATURE_BIT)

#define INFLATE 0u
#define DEFLATE 1u
#define RING_SIZE 128u
#define PAGE 4096u
/* The first page of LOW behind the rings. */
#define FREE_PFN (LOW_PFN + (RINGS_BYTES >> 12))

static inline void begin_driver(struct rig *g, uint64_t features)
{
	rig_negotiate(g, BASIC | features);
	rig_set_memory(g, true, true);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	rig_run(g);
}

static inline struct rig *begin(uint64_t features)
{
	struct rig *g = rig_new(0);

	begin_driver(g, features);
	return g;
}

static inline uint32_t config_get(struct rig *g, uint32_t offset)
{
	uint8_t bytes[4];
	struct umbra_error err;

	assert_int_equal(g->virtio->ops->get_config(g->virtio, offset, bytes, 4, &err), 0);
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

/* What the driver is told to have in the balloon, pages. */
static inline uint32_t told_pages(struct rig *g)
{
	return config_get(g, 0);
}

static inline size_t stat_put(uint8_t *at, uint16_t tag, uint64_t value)
{
	at[0] = (uint8_t)tag;
	at[1] = (uint8_t)(tag >> 8);
	for (unsigned int i = 0; i < 8; i++)
		at[2 + i] = (uint8_t)(value >> 8 * i);
	return 10;
}

static inline struct umbra_balloon_info info_of(struct rig *g)
{
	struct umbra_balloon_info info;

	balloon_device_info(g->device, &info);
	return info;
}

static inline uint64_t ballooned(struct rig *g)
{
	return info_of(g).ballooned_bytes / PAGE;
}

/* One buffer with these pfns, to the end. */
static inline void send_pfns(struct rig *g, unsigned int queue, const uint32_t *pfns, size_t count)
{
	uint32_t len;

	rig_reuse(g);
	rig_send(g, queue, pfns, count * sizeof(*pfns), NULL);
	rig_run(g);
	assert_int_equal(rig_get(g, queue, &len), 1);
	assert_int_equal(len, 0);
}

static inline size_t message_make(uint8_t *bytes, size_t size, const struct page_run *runs,
				  size_t count)
{
	struct page_run_encoder e;

	page_run_encode_begin(&e, bytes, (page_run_u32)size);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(page_run_encode(&e, runs[i]), runs[i].count);
	return page_run_encode_finish(&e);
}

/* One message, to the end; its status. */
static inline struct page_run_status send_message(struct rig *g, unsigned int queue,
						  const void *bytes, size_t size)
{
	uint64_t status;
	uint32_t len;

	rig_reuse(g);
	rig_send(g, queue, bytes, size, &status);
	rig_run(g);
	assert_int_equal(rig_get(g, queue, &len), 1);
	assert_int_equal(len, PAGE_RUN_STATUS_BYTES);
	return page_run_status_load(rig_at(g, status));
}

static inline struct page_run_status send_runs(struct rig *g, unsigned int queue,
					       const struct page_run *runs, size_t count)
{
	uint8_t bytes[4096];

	return send_message(g, queue, bytes, message_make(bytes, sizeof(bytes), runs, count));
}

static inline struct page_run_status send_run(struct rig *g, unsigned int queue, uint64_t pfn,
					      uint64_t count)
{
	const struct page_run run = { pfn, count };

	return send_runs(g, queue, &run, 1);
}

static inline void put_word(uint8_t *at, uint64_t v)
{
	for (unsigned int i = 0; i < 8; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

#define assert_status(got, want_pages, want_code, want_record)                                     \
	do {                                                                                       \
		struct page_run_status status_ = (got);                                            \
		assert_int_equal(status_.code, want_code);                                         \
		assert_int_equal(status_.pages, want_pages);                                       \
		assert_int_equal(status_.record, want_record);                                     \
	} while (0)

#define assert_discards(g, ...)                                                                    \
	do {                                                                                       \
		const struct rig_discard want_[] = { __VA_ARGS__ };                                \
		assert_int_equal((g)->discard_count, ARRAY_SIZE(want_));                           \
		assert_memory_equal((g)->discards, want_, sizeof(want_));                          \
		(g)->discard_count = 0;                                                            \
	} while (0)

#endif
