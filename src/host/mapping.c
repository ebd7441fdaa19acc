/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory files, mapped: see mapping.h. */
#include "host/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "host/file_kind.h"
#include "host/mapping_guard.h"
#include "host/memory_hold.h"

struct mapping {
	struct memory_backing backing; /* first member */
	void *base;                    /* what mmap() gave */
	size_t length;                 /* bytes, whole pages of the file */
};

static void mapping_release(struct memory_backing *backing)
{
	struct mapping *m = (struct mapping *)backing;

	mapping_guard_remove(m->base);
	munmap(m->base, m->length);
	memory_hold_close(backing);
	fd_close(&backing->fd);
	free(m);
}

/* The unit in which a file can be mapped: its huge page on hugetlbfs (where
 * munmap() wants whole ones, too), else the machine's page. */
static int file_page_size(int fd, const struct file_nature *nature, uint64_t *size,
			  struct umbra_error *err)
{
	struct statfs fs;

	*size = (uint64_t)sysconf(_SC_PAGESIZE);
	/* Only memory may be asked: see file_kind.h. */
	if (nature->kind != FILE_IS_MEMORY)
		return 0;
	if (fstatfs(fd, &fs))
		return error_set(err, -errno, "memory file: fstatfs: %s", strerror(errno));
	if ((unsigned long)fs.f_type == HUGETLBFS_MAGIC && is_power_of_two((uint64_t)fs.f_bsize) &&
	    (uint64_t)fs.f_bsize > *size)
		*size = (uint64_t)fs.f_bsize;
	return 0;
}

static int request_check_extent(const struct mapping_request *r, struct umbra_error *err)
{
	if (r->size == 0)
		return error_set(err, -EINVAL, "memory region at gpa 0x%" PRIx64 " is empty",
				 r->gpa.v);
	if (addr_range_wraps(r->offset, r->size) || r->offset + r->size > INT64_MAX)
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64 ": file offset 0x%" PRIx64
				 " and 0x%" PRIx64 " bytes overflow",
				 r->gpa.v, r->offset, r->size);
	return 0;
}

static int check_file(const struct file_nature *file, const struct mapping_request *r,
		      struct umbra_error *err)
{
	char text[UMBRA_ERROR_SIZE];

	if (file->kind == FILE_IS_OTHER)
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64
				 ": file descriptor is not a memory file (mode 0%o); expected a "
				 "memfd or a file on tmpfs or hugetlbfs",
				 r->gpa.v, file->mode);
	if (file->kind == FILE_IS_FOREIGN)
		return error_set(err, -EINVAL, "memory region at gpa 0x%" PRIx64 ": its file %s",
				 r->gpa.v, file_foreign_text(file, text, sizeof(text)));
	if (file->size < r->offset + r->size)
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64 ": file has 0x%" PRIx64
				 " bytes; offset 0x%" PRIx64 " and 0x%" PRIx64
				 " bytes need 0x%" PRIx64,
				 r->gpa.v, file->size, r->offset, r->size, r->offset + r->size);
	return 0;
}

static void backing_describe(struct memory_backing *b, const struct file_nature *file,
			     uint64_t page)
{
	b->file_device = file->device;
	b->file_inode = file->inode;
	b->file_is_memory = file->kind == FILE_IS_MEMORY;
	b->file_links = file->links;
	snprintf(b->file_system, sizeof(b->file_system), "%s", file->system);
	b->page = b->block = page;
	/* tmpfs with huge pages, and hugetlbfs, say so here. */
	if (is_power_of_two(file->preferred) && file->preferred > page)
		b->block = file->preferred;
}

/* Map [@offset, @offset + @length), whole pages of *@fd, and consume it. */
static int map_pages(int *fd, uint64_t offset, uint64_t length, uint64_t page,
		     const struct file_nature *file, struct mapping **out, struct umbra_error *err)
{
	struct mapping *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return error_set(err, -ENOMEM, "memory file: no memory to describe a mapping");
	m->backing.refs = 1;
	m->backing.release = mapping_release;
	m->length = length;
	m->base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, *fd,
		       (off_t)offset);
	if (m->base == MAP_FAILED) {
		rc = error_set(err, -errno,
			       "memory file: cannot map 0x%" PRIx64 " bytes at offset 0x%" PRIx64
			       ": %s",
			       length, offset, strerror(errno));
		free(m);
		return rc;
	}
	mapping_guard_add(m->base, m->length, page, &m->backing.cut);
	backing_describe(&m->backing, file, page);
	/* A core dump of ours shall not hold the guest's memory. */
	(void)madvise(m->base, length, MADV_DONTDUMP);
	m->backing.fd = fd_take(fd);
	*out = m;
	return 0;
}

int mapping_create(int *fd, const struct mapping_request *request, struct memory_region *region,
		   struct umbra_error *err)
{
	struct mapping *m = NULL;
	struct file_nature file;
	uint64_t page, start;
	int rc;

	rc = request_check_extent(request, err);
	if (rc)
		return rc;
	rc = file_judge(*fd, &file);
	if (rc)
		return error_set(err, rc, "memory region at gpa 0x%" PRIx64 ": statx: %s",
				 request->gpa.v, strerror(-rc));
	rc = check_file(&file, request, err);
	if (rc)
		return rc;
	rc = file_page_size(*fd, &file, &page, err);
	if (rc)
		return rc;
	start = request->offset & ~(page - 1);
	if (request->offset + request->size > INT64_MAX - page)
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64 " of 0x%" PRIx64
				 " bytes is larger than what can be mapped",
				 request->gpa.v, request->size);
	rc = map_pages(fd, start, align_up(request->offset + request->size, page) - start, page,
		       &file, &m, err);
	if (rc)
		return error_prefix(err, rc, "memory region at gpa 0x%" PRIx64, request->gpa.v);
	m->backing.fd_offset = request->offset;
	*region = (struct memory_region){
		.gpa = request->gpa,
		.uva = request->uva,
		.size = request->size,
		.host = (uint8_t *)m->base + (request->offset - start),
		.backing = &m->backing,
	};
	return 0;
}

int mapping_create_own(uint64_t size, struct memory_region *region, struct umbra_error *err)
{
	const struct file_nature file = { .kind = FILE_IS_MEMORY };
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct mapping *m = NULL;
	int fd, rc;

	if (size == 0 || size > INT64_MAX - page)
		return error_set(err, -EINVAL, "own memory of 0x%" PRIx64 " bytes cannot be had",
				 size);
	size = align_up(size, page);
	fd = memfd_create("umbra", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return error_set(err, -errno, "own memory: memfd_create: %s", strerror(errno));
	if (ftruncate(fd, (off_t)size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		rc = error_set(err, -errno, "own memory of 0x%" PRIx64 " bytes: %s", size,
			       strerror(errno));
	else
		rc = map_pages(&fd, 0, size, page, &file, &m, err);
	fd_close(&fd);
	if (rc)
		return rc;
	*region = (struct memory_region){
		.size = size,
		.host = m->base,
		.backing = &m->backing,
	};
	return 0;
}
