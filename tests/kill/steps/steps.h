/* SPDX-License-Identifier: BSD-2-Clause */
/* Stores to shared memory, one by one: flight_steps.c, flight_kill.c. */
#ifndef UMBRA_TEST_KILL_STEPS_H
#define UMBRA_TEST_KILL_STEPS_H

#include <stdint.h>

/* Store the @bytes of @v, as they lie in memory. */
void step_store(void *p, unsigned int bytes, uint64_t v);

#endif
