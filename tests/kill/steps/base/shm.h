/* SPDX-License-Identifier: BSD-2-Clause */
/* Stands in for base/shm.h by the order of the include path: each store to shared memory
 * is a step, before which the run can be cut, or stopped (steps.h). */
#ifndef UMBRA_BASE_SHM_H
#define UMBRA_BASE_SHM_H

#include <stdint.h>

#include "base/le.h"
#include "steps.h"

#define SHM_LOAD(bits, name)                                                                       \
	static inline uint##bits##_t name(const le##bits *p)                                       \
	{                                                                                          \
		return le##bits##_to((le##bits){ __atomic_load_n(&p->raw, __ATOMIC_ACQUIRE) });    \
	}
#define SHM_STORE(bits, name)                                                                      \
	static inline void name(le##bits *p, uint##bits##_t v)                                     \
	{                                                                                          \
		step_store(p, bits / 8, le##bits##_from(v).raw);                                   \
	}

static inline uint8_t shm_load8(const uint8_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline void shm_store8_release(uint8_t *p, uint8_t v)
{
	step_store(p, 1, v);
}
SHM_LOAD(16, shm_load16)
SHM_LOAD(32, shm_load32)
SHM_LOAD(64, shm_load64)
SHM_LOAD(16, shm_load16_acquire)
SHM_STORE(16, shm_store16)
SHM_STORE(32, shm_store32)
SHM_STORE(64, shm_store64)
SHM_STORE(16, shm_store16_release)
SHM_STORE(64, shm_store64_release)

static inline void shm_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#undef SHM_LOAD
#undef SHM_STORE

#endif
