/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk in a file, which remembers who wrote each sector last.
 *
 * Theory of operation.  Beside the file lies another, mapped and shared by all back-ends that
 * ever have the disk: each of them gets a number, its instance, higher than all
 * before, and each write of a sector a generation, higher than all before; both stand with the
 * sector that was written.  So a back-end that is thought to be dead and writes a
 * sector that a successor has written is noticed (late), and a test can count how often a
 * sector was written.  The generation is stored behind the data: who dies in
 * between has written without a trace, which the next write of the sector ends.
 *
 * Ownership: blk_disk_close() closes and unmaps what blk_disk_open() has opened and mapped.
 * Threads: one in each process.
 */
#ifndef UMBRA_TESTS_BLK_BACK_DISK_H
#define UMBRA_TESTS_BLK_BACK_DISK_H

#include <stdint.h>

#include "point.h"
#include "umbra/error.h"

#define BLK_SECTOR 512u /* bytes, virtio 1.2, 5.2.4 */

struct blk_generations {
	uint64_t instances;   /* given so far */
	uint64_t generations; /* given so far */
	uint64_t late;        /* writes that came late */
	uint64_t spare[5];
	struct blk_generation {
		uint64_t word;   /* the last generation, and above BLK_INSTANCE_SHIFT the newest
				    instance; 0: never written */
		uint64_t writes; /* of this sector */
	} sectors[];
};

#define BLK_INSTANCE_SHIFT 40

struct blk_disk {
	int fd;
	uint64_t sectors; /* of the file */
	uint64_t instance;
	struct blk_generations *generations;
};

/* @path is a file of whole sectors; @generations one that is made if it is missing. */
UMBRA_MUST_CHECK int blk_disk_open(struct blk_disk *d, const char *path, const char *generations,
				   struct umbra_error *err);
/* The same with open files; both are borrowed. */
UMBRA_MUST_CHECK int blk_disk_open_at(struct blk_disk *d, int fd, int generations,
				      struct umbra_error *err);
void blk_disk_close(struct blk_disk *d);

/* Whoever has the disk from now on is another instance. */
void blk_disk_renew(struct blk_disk *d);

/* One sector.  False: an error of the file. */
bool blk_disk_read(struct blk_disk *d, const struct blk_place *at, uint64_t sector, uint8_t *data);
bool blk_disk_write(struct blk_disk *d, const struct blk_place *at, uint64_t sector,
		    const uint8_t *data);
bool blk_disk_flush(struct blk_disk *d, const struct blk_place *at);

#endif
