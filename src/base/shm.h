/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Access to memory that another party can read and write at the same time.
 *
 * Theory of operation: every load or store of shared ring memory goes through
 * the functions of this file and through nothing else.  Each is one access of
 * the word's size, which the compiler may not repeat, split or invent: what a
 * hostile peer changes after the load, the caller never sees.  "Copy once,
 * judge the copy" rests on that.
 *
 * Orders: relaxed where the word is a hint or is ordered by a neighbour;
 * acquire and release for the index that publishes other words; a full fence
 * only where a store must be seen before a later load (notification
 * suppression), which acquire and release cannot give.  Each caller names the
 * other half of its pair at the call.
 */
#ifndef UMBRA_BASE_SHM_H
#define UMBRA_BASE_SHM_H

#include <stdint.h>

#include "base/le.h"

/* For words that a peer has placed without alignment. */
static inline uint8_t shm_load8(const uint8_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline uint16_t shm_load16(const le16 *p)
{
	return le16_to((le16){ __atomic_load_n(&p->raw, __ATOMIC_RELAXED) });
}

static inline uint32_t shm_load32(const le32 *p)
{
	return le32_to((le32){ __atomic_load_n(&p->raw, __ATOMIC_RELAXED) });
}

static inline uint64_t shm_load64(const le64 *p)
{
	return le64_to((le64){ __atomic_load_n(&p->raw, __ATOMIC_RELAXED) });
}

static inline uint16_t shm_load16_acquire(const le16 *p)
{
	return le16_to((le16){ __atomic_load_n(&p->raw, __ATOMIC_ACQUIRE) });
}

static inline void shm_store16(le16 *p, uint16_t v)
{
	__atomic_store_n(&p->raw, le16_from(v).raw, __ATOMIC_RELAXED);
}

static inline void shm_store32(le32 *p, uint32_t v)
{
	__atomic_store_n(&p->raw, le32_from(v).raw, __ATOMIC_RELAXED);
}

static inline void shm_store64(le64 *p, uint64_t v)
{
	__atomic_store_n(&p->raw, le64_from(v).raw, __ATOMIC_RELAXED);
}

static inline void shm_store8_release(uint8_t *p, uint8_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline void shm_store16_release(le16 *p, uint16_t v)
{
	__atomic_store_n(&p->raw, le16_from(v).raw, __ATOMIC_RELEASE);
}

static inline void shm_store64_release(le64 *p, uint64_t v)
{
	__atomic_store_n(&p->raw, le64_from(v).raw, __ATOMIC_RELEASE);
}

/*
 * Order an earlier store before a later load.  ThreadSanitizer does not model
 * fences and needs none here: it looks for data races, and every access on
 * both sides of one of our fences is atomic.  What a missing fence breaks is a
 * wake-up, and that the race test finds by hanging.
 */
static inline void shm_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
