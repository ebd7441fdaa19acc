/* SPDX-License-Identifier: BSD-2-Clause */
/* What a front-end said of a ring: see guest_ring.h. */
#include "virtio/guest_ring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "ring/split_look.h"

void guest_ring_init(struct guest_ring *g, unsigned int index)
{
	*g = (struct guest_ring){ .index = index, .kick_fd = -1, .call_fd = -1, .err_fd = -1 };
}

void guest_ring_forget(struct guest_ring *g)
{
	fd_close(&g->kick_fd);
	fd_close(&g->call_fd);
	fd_close(&g->err_fd);
	guest_ring_init(g, g->index);
}

int guest_ring_check_size(const struct guest_ring *g, uint32_t size, struct umbra_error *err)
{
	if (is_power_of_two(size) && size <= SPLIT_SIZE_MAX)
		return 0;
	return error_set(err, -EINVAL, "queue %u: size %u is not a power of two from 1 to %u",
			 g->index, size, SPLIT_SIZE_MAX);
}

bool guest_ring_is_at(const struct guest_ring *g, const struct virtio_ring_addr *addr)
{
	return g->has_addr && g->addr.desc.v == addr->desc.v && g->addr.avail.v == addr->avail.v &&
	       g->addr.used.v == addr->used.v;
}

/* The @bytes of a part of the ring, the @what ring, or NULL. */
static void *part_find(const struct guest_ring *g, const struct memory *memory, const char *what,
		       uva_t uva, size_t bytes, uint64_t align, struct umbra_error *err)
{
	void *host = memory ? memory_host_uva(memory, uva, bytes) : NULL;

	if (!host) {
		memory_lacks_ring(memory, g->index, what, uva, bytes, err);
		return NULL;
	}
	/* What counts is where we see it; a page's offset is the same for all. */
	if ((uintptr_t)host % align) {
		error_set(err, -EINVAL,
			  "queue %u: the %s ring at user address 0x%" PRIx64
			  " is not aligned to %" PRIu64 " bytes",
			  g->index, what, uva.v, align);
		return NULL;
	}
	return host;
}

int guest_ring_find_at(struct guest_ring *g, const struct virtio_ring_addr *addr,
		       const struct memory *memory, struct umbra_error *err)
{
	struct split_ring s = { .size = g->size };

	if (!g->size)
		return error_set(err, -EINVAL, "queue %u: it has no size yet (SET_VRING_NUM)",
				 g->index);
	s.desc = part_find(g, memory, "descriptor", addr->desc, split_desc_bytes(g->size),
			   SPLIT_DESC_ALIGN, err);
	if (!s.desc)
		return -EINVAL;
	s.avail = part_find(g, memory, "avail", addr->avail, split_avail_bytes(g->size),
			    SPLIT_AVAIL_ALIGN, err);
	if (!s.avail)
		return -EINVAL;
	s.used = part_find(g, memory, "used", addr->used, split_used_bytes(g->size),
			   SPLIT_USED_ALIGN, err);
	if (!s.used)
		return -EINVAL;
	g->split = s;
	g->addr = *addr;
	g->has_addr = true;
	return 0;
}

int guest_ring_find(struct guest_ring *g, const struct memory *memory, struct umbra_error *err)
{
	if (g->size && !g->has_addr)
		return error_set(err, -EINVAL, "queue %u: it has no address yet (SET_VRING_ADDR)",
				 g->index);
	return guest_ring_find_at(g, &g->addr, memory, err);
}

const char *guest_ring_reason(const struct guest_ring *g, const char *text)
{
	char name[sizeof("queue 4294967295: ")];
	int length = snprintf(name, sizeof(name), "queue %u: ", g->index);

	return strncmp(text, name, (size_t)length) ? text : text + length;
}

int guest_ring_judge(struct guest_ring *g, struct umbra_error *err)
{
	struct ring_position said;

	if (split_can_stand(&g->split, &g->base, &said))
		return 0;
	return error_set(err, -EPROTO,
			 "the front-end starts it at index %u, but its guest's ring has used %u "
			 "and available %u: expected an index from the one to the other, which are "
			 "at most %u apart",
			 g->base.avail, said.used, said.avail, g->size);
}
