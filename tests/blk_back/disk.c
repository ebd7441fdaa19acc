/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk in a file, with a generation for each sector: see disk.h. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"

static size_t generations_bytes(const struct blk_disk *d)
{
	return sizeof(struct blk_generations) + d->sectors * sizeof(struct blk_generation);
}

void blk_disk_renew(struct blk_disk *d)
{
	d->instance = __atomic_add_fetch(&d->generations->instances, 1, __ATOMIC_SEQ_CST);
}

int blk_disk_open_at(struct blk_disk *d, int fd, int generations, struct umbra_error *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return error_set(err, -errno, "the disk: %s", strerror(errno));
	if (st.st_size == 0 || st.st_size % BLK_SECTOR)
		return error_set(err, -EINVAL,
				 "the disk has %ld bytes; expected a multiple of %u, not 0",
				 (long)st.st_size, BLK_SECTOR);
	*d = (struct blk_disk){ .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
				.sectors = (uint64_t)st.st_size / BLK_SECTOR };
	if (d->fd < 0 || ftruncate(generations, (off_t)generations_bytes(d)))
		return error_set(err, -errno, "the generations: %s", strerror(errno));
	d->generations = mmap(NULL, generations_bytes(d), PROT_READ | PROT_WRITE, MAP_SHARED,
			      generations, 0);
	if (d->generations == MAP_FAILED)
		return error_set(err, -errno, "the generations: %s", strerror(errno));
	blk_disk_renew(d);
	return 0;
}

int blk_disk_open(struct blk_disk *d, const char *path, const char *generations,
		  struct umbra_error *err)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), other, rc;

	if (fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	other = open(generations, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	rc = other < 0 ? error_set(err, -errno, "%s: %s", generations, strerror(errno))
		       : blk_disk_open_at(d, fd, other, err);
	if (other >= 0)
		close(other);
	close(fd);
	return rc;
}

void blk_disk_close(struct blk_disk *d)
{
	munmap(d->generations, generations_bytes(d));
	close(d->fd);
}

bool blk_disk_read(struct blk_disk *d, const struct blk_place *at, uint64_t sector, uint8_t *data)
{
	uint64_t value = sector;
	bool ok = true;

	if (blk_before(at, BLK_DISK_READ, &value))
		ok = pread(d->fd, data, BLK_SECTOR, (off_t)(value * BLK_SECTOR)) == BLK_SECTOR;
	blk_after(at, BLK_DISK_READ, value);
	return ok;
}

/* The newest instance that has written a sector. */
static uint64_t newest(const struct blk_generation *g)
{
	return __atomic_load_n(&g->word, __ATOMIC_ACQUIRE) >> BLK_INSTANCE_SHIFT;
}

bool blk_disk_write(struct blk_disk *d, const struct blk_place *at, uint64_t sector,
		    const uint8_t *data)
{
	struct blk_generation *g = &d->generations->sectors[sector];
	struct blk_place here = *at;
	uint8_t bytes[BLK_SECTOR];
	uint64_t lie = 0, word;
	bool ok = true;

	here.late = __atomic_load_n(&g->word, __ATOMIC_ACQUIRE) >> BLK_INSTANCE_SHIFT > d->instance;
	if (blk_before(&here, BLK_DISK_WRITE, &lie)) {
		/* The hook may have let a successor write meanwhile. */
		here.late = newest(g) > d->instance;
		if (here.late)
			__atomic_add_fetch(&d->generations->late, 1, __ATOMIC_SEQ_CST);
		for (unsigned int i = 0; i < BLK_SECTOR; i++)
			bytes[i] = data[i] ^ (uint8_t)lie;
		ok = pwrite(d->fd, bytes, BLK_SECTOR, (off_t)(sector * BLK_SECTOR)) == BLK_SECTOR;
	}
	blk_after(&here, BLK_DISK_WRITE, lie);
	word = __atomic_add_fetch(&d->generations->generations, 1, __ATOMIC_SEQ_CST) |
	       MAX(d->instance, newest(g)) << BLK_INSTANCE_SHIFT;
	if (blk_before(&here, BLK_DISK_GENERATION, &word)) {
		__atomic_add_fetch(&g->writes, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&g->word, word, __ATOMIC_RELEASE);
	}
	blk_after(&here, BLK_DISK_GENERATION, word);
	return ok;
}

bool blk_disk_flush(struct blk_disk *d, const struct blk_place *at)
{
	uint64_t none = 0;
	bool ok = true;

	if (blk_before(at, BLK_DISK_FLUSH, &none))
		ok = fdatasync(d->fd) == 0;
	blk_after(at, BLK_DISK_FLUSH, none);
	return ok;
}
