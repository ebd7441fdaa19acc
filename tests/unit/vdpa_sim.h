/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A simulated kernel with one simulated vhost-vdpa device in it.
 *
 * It answers the system calls of vdpa/vhost_vdpa.h as Linux 6.12 does
 * (drivers/vhost/vdpa.c), keeps what it is told, holds a reference on every
 * eventfd that it was given, and writes down each call.  And it can be told to
 * misbehave as the real ones do not when one wants them to.
 */
#ifndef UMBRA_TESTS_UNIT_VDPA_SIM_H
#define UMBRA_TESTS_UNIT_VDPA_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "vdpa/vhost_vdpa.h"

#define SIM_RINGS 3u
#define SIM_MAPS_MAX 64u
#define SIM_LOG_SIZE 8192u

/* Back-end features (linux/vhost_types.h), by name for tables in tests. */
#define A_MSG_V2 (1ull << 1)
#define A_BATCH (1ull << 2)
#define A_ASID (1ull << 3)
#define A_SUSPEND (1ull << 4)
#define A_RESUME (1ull << 5)
#define A_LATE_ENABLE (1ull << 6)
#define A_PERSIST (1ull << 8)
#define A_PLAIN (A_MSG_V2 | A_BATCH | A_ASID)
#define A_FULL (A_PLAIN | A_SUSPEND | A_RESUME | A_LATE_ENABLE | A_PERSIST)

struct sim_map {
	uint64_t iova, size, uaddr;
};

struct sim_vring {
	uint32_t size;
	uint16_t base; /* as the device counts */
	uint64_t desc, avail, used;
	int kick_fd, call_fd, err_fd; /* duplicates; -1: none */
	bool ready;
};

struct vdpa_sim {
	struct vhost_vdpa_system system;

	/* What it is. */
	uint64_t features, abilities, first, last;
	uint32_t ring_count, config_size;
	uint16_t size_max;
	bool has_index;     /* GET_VRING_BASE works */
	bool forgets_index; /* in a reset */
	uint64_t pin_limit;

	/* What it was told. */
	int node_fd; /* -1: closed */
	bool has_owner, suspended, in_batch;
	uint8_t status;
	uint64_t acked, abilities_acked;
	uint8_t config[64];
	int config_fd; /* duplicate */
	struct sim_vring rings[SIM_RINGS];
	unsigned int map_count; /* the kernel's list */
	struct sim_map maps[SIM_MAPS_MAX];
	bool maps_in_device; /* false: a reset took them from the device */
	char log[SIM_LOG_SIZE];

	/* What it shall do wrong. */
	int open_error;
	unsigned long fail_request; /* this ioctl ... */
	unsigned int fail_skip;     /* ... after so many that succeed ... */
	int fail_error;             /* ... fails with this errno, once */
	unsigned int fail_call;     /* system call number so much (from 1) does; 0: none */
	unsigned int fail_map;      /* mapping number so much (from 1) does; 0: none */
	bool fail_map_on;           /* and all that follow */
	bool is_gone;               /* ENODEV for ever */
	uint8_t status_lost;        /* bits that do not stick */
	bool needs_reset;
	unsigned int reset_looks; /* status is 0 after so many looks */
	void (*before)(struct vdpa_sim *sim, unsigned long request);

	unsigned int calls, status_reads, resets, updates, invalidates, batches;
};

/* A device that can do everything; to be changed before it is opened. */
void vdpa_sim_init(struct vdpa_sim *sim);

/* How often ring @index has been kicked since this was last asked. */
unsigned int vdpa_sim_kicks(struct vdpa_sim *sim, unsigned int index);

/* Is [@iova, @iova + @size) mapped to @host, in one piece? */
bool vdpa_sim_is_mapped(const struct vdpa_sim *sim, uint64_t iova, uint64_t size, const void *host);

#endif
