/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vhost-vdpa back-end on a simulated kernel.  Each test counts fds, and what is
 * mapped.
 */
#ifndef UMBRA_TESTS_VHOST_VDPA_RIG_H
#define UMBRA_TESTS_VHOST_VDPA_RIG_H

#include "base/bits.h"
#include "base/error.h"
#include "positions.h"
#include "umbra/shadow_device.h"
#include "vdpa_sim.h"
#include "vhost_user/protocol.h"

#define FEATURES (BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_F_ACCESS_PLATFORM))
#define BIT30 BIT64(VHOST_USER_F_PROTOCOL_FEATURES)
#define MIB (1ull << 20)
#define UVA 0x7f0000000000ull
#define TIMEOUT_MS 10000u
#define REGIONS_MAX 32u

extern struct vdpa_sim sim;
extern struct virtio_device *b;
extern struct umbra_error err;
extern struct memory_region regions[REGIONS_MAX];
extern unsigned int region_count;
extern int kick_fd, call_fd, err_fd, stop_fd;

/* One more region, made of pages of its own. */
struct memory_region *region_add(uint64_t gpa, uint64_t size);

void regions_drop(void);
int setup(void **state);
void backend_close(void);
int teardown(void **state);
void backend_make(void);
struct virtio_ring ring_at(uint64_t uva, uint16_t base);
/* Ring @index in the first region, at @base. */
int ring_note(unsigned int index, uint16_t base, bool enabled);
/* Opened, with features and one region of memory. */
void backend_ready(void);
/* And rings 0 and 1 run. */
void backend_runs(void);
uint16_t ring_stopped_at(unsigned int index);
/* A second life, to show that the back-end is as good as new. */
void check_runs_again(void);
/* Whatever is called now fails alike, and reaches the kernel no more. */
void check_lost(const char *why);
void says(const char *words);
void check_map_count(void);

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
