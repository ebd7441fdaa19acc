/* SPDX-License-Identifier: BSD-2-Clause */
/* A device with a simulated disk that dies, and a guest with two rings. */
#ifndef UMBRA_TESTS_SHADOW_HOLD_RIG_H
#define UMBRA_TESTS_SHADOW_HOLD_RIG_H

#include "base/error.h"
#include "sim.h"

#define SECTORS 4096u

/* Calls that the disk has heard; it dies at that one, 0: never. */
extern unsigned int calls, dies_at;
extern uint64_t sectors;
extern uint8_t last_status;
extern uint8_t disk_config[16];
extern bool takes_config;

void bury(struct sim *sim);
struct sim *boot_with(enum umbra_shadow_mode mode, uint32_t type);
struct sim *boot(void);
void is(const struct sim *sim, enum umbra_device_state state);
/* The connection is found closed. */
void lose(struct sim *sim);
void comes(struct sim *sim);
/* It dies at call @at of those that it is greeted with, and is as if it had never come. */
void comes_and_dies(struct sim *sim, unsigned int at);
void request(struct sim *sim, unsigned int queue, uint64_t serial);
/* The guest gets so many more, and the first is @serial. */
void gets(struct sim *sim, unsigned int queue, uint64_t serial);
void gets_nothing(struct sim *sim, unsigned int queue);
/* The back-end has these requests, in this order. */
void has(struct sim *sim, unsigned int queue, unsigned int count, const uint64_t *serials);
void completes_all(struct sim *sim, unsigned int queue);
/* Queue 0: of three requests the guest has got the second, and the next back-end is given the
 * others again, the older one of which is not the newest on the guest's ring. */
void returns_with_a_gap(struct sim *sim);
/* Of one request that it took it uses one that it was never given. */
void lies(struct sim *sim, unsigned int queue);

#endif
