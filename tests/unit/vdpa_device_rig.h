/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest on each kind of vhost-vdpa device, and what is expected of both. */
#ifndef UMBRA_TESTS_VDPA_DEVICE_RIG_H
#define UMBRA_TESTS_VDPA_DEVICE_RIG_H

#include "vdpa_rig.h"

#define SIZE 16u
#define FAR_GPA (1ull << 40) /* beyond 39 bits */

extern struct rig rig;

/* The kinds of devices that there are. */
#define KINDS 5u
extern const struct kind {
	const char *name;
	uint64_t abilities;
	bool has_index, forgets_index, passes;
} kinds[KINDS];

/* The kernel has a device of this kind, in front of which the two regions are. */
void begin(const struct kind *kind, uint64_t second_gpa);
/* ... and a guest runs on it. */
void begin_booted(const struct kind *kind);

void says(const char *words);
const struct umbra_shadow_picture *info(void);
/* @reason NULL: none of its own, but for what a device that is negotiated waits for. */
void is_in(enum umbra_device_state state, const char *reason);
enum umbra_device_state mode_state(bool shadowed);
int switch_to(bool shadowed);
void served(unsigned int count);
/* The disk takes @count requests of each queue, and is in no hurry. */
void is_busy(unsigned int count);
/* Whatever was asked is answered, and the disk never lost any. */
void all_is_answered(void);
/* The device sees guest memory and the shadow's own, and nothing else. */
void is_mapped_as_told(unsigned int regions);
/* The front-end stops all; each ring stands where the guest's requests do. */
void stop_all(void);
/* The next front-end finds a device that is as good as new. */
void lives_again(void);

#define TEST(name) cmocka_unit_test(name)

#endif
