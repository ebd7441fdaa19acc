/* SPDX-License-Identifier: BSD-2-Clause */
/* A device that serves the guest's own rings: see guest_rings.h. */
#include "virtio/guest_rings.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "virtio/feature_bits.h"

/* Those that need the device, of every kind. */
#define PROTOCOL_FEATURES                                                                          \
	(BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |    \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT64(VHOST_USER_PROTOCOL_F_STATUS))

#define MEMORY_SLOTS 509u /* vhost-user names no limit; QEMU has 512 slots at most */

static struct guest_rings *guest_rings_of(struct virtio_device *self)
{
	return (struct guest_rings *)(void *)self;
}

/* --- all of them -------------------------------------------------------------------- */

static void rings_each(struct guest_rings *g,
		       void (*what)(struct guest_rings *g, struct served_ring *r))
{
	for (unsigned int i = 0; i < g->kind->count; i++)
		what(g, g->kind->ring(g, i));
}

void guest_rings_pause(struct guest_rings *g)
{
	rings_each(g, served_ring_pause);
}

void guest_rings_resume(struct guest_rings *g)
{
	if (g->kind->resume)
		g->kind->resume(g);
	rings_each(g, served_ring_resume);
}

static void rings_tell_change(struct guest_rings *g)
{
	if (g->kind->changed)
		g->kind->changed(g);
}

/* --- the front-end's messages about one ring ------------------------------------------ */

/*
 * NULL: there is no such ring.
 *
 * Not every front-end stops a ring before it sets it up for the next driver (User
 * Mode Linux does not): guest_ring.h says what each message does to one that is started.
 */
static struct served_ring *ring_get(struct virtio_device *self, unsigned int index,
				    struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);

	if (index < g->kind->count)
		return g->kind->ring(g, index);
	error_set(err, -EINVAL, "queue %u: %s has %u", index, g->kind->name, g->kind->count);
	return NULL;
}

static int set_size(struct virtio_device *self, unsigned int index, uint32_t size,
		    struct umbra_error *err)
{
	struct served_ring *r = ring_get(self, index, err);
	int rc = r ? guest_ring_check_size(&r->front, size, err) : -EINVAL;

	if (rc)
		return rc;
	if (r->front.size != size)
		served_ring_halt(guest_rings_of(self), r);
	r->front.size = (uint16_t)size;
	return 0;
}

static int set_addr(struct virtio_device *self, unsigned int index,
		    const struct virtio_ring_addr *addr, struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);
	struct served_ring *r = ring_get(self, index, err);
	int rc;

	if (!r)
		return -EINVAL;
	if (guest_ring_is_at(&r->front, addr))
		return 0;
	if (!served_ring_is_started(r)) {
		r->front.addr = *addr;
		r->front.has_addr = true;
		return 0;
	}
	rc = guest_ring_find_at(&r->front, addr, g->memory, err);
	if (rc)
		return rc;
	guest_rings_pause(g);
	served_ring_halt(g, r);
	rc = served_ring_start(g, r, true, err);
	guest_rings_resume(g);
	return rc;
}

static int set_base(struct virtio_device *self, unsigned int index, struct ring_position base,
		    struct umbra_error *err)
{
	struct served_ring *r = ring_get(self, index, err);

	if (!r)
		return -EINVAL;
	served_ring_halt(guest_rings_of(self), r);
	r->front.base = base;
	return 0;
}

/* The new fd is proven before the old one is let go of: after an error *@fd is still the
 * caller's, and the old one serves on. */
static int fd_exchange(struct guest_rings *g, struct served_ring *r, int *slot, int *fd,
		       struct umbra_error *err)
{
	int before = *slot, rc;

	served_ring_pause(g, r);
	*slot = *fd;
	rc = served_ring_serve(g, r, err);
	if (rc) {
		*slot = before;
		served_ring_resume(g, r);
		return rc;
	}
	fd_close(&before);
	*fd = -1;
	return 0;
}

static int set_kick(struct virtio_device *self, unsigned int index, int *fd,
		    struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);
	struct served_ring *r = ring_get(self, index, err);
	int rc;

	if (!r)
		return -EINVAL;
	/* VERSION_1 is always among them.  Without, what is in the buffers would be read in
	 * the words of another protocol than the driver's. */
	if (!g->features)
		return error_set(err, -EINVAL, "queue %u: it is started before SET_FEATURES",
				 index);
	if (served_ring_is_started(r))
		return fd_exchange(g, r, &r->front.kick_fd, fd, err);
	guest_rings_pause(g);
	rc = served_ring_start(g, r, false, err);
	if (!rc) {
		fd_close(&r->front.kick_fd);
		r->front.kick_fd = fd_take(fd);
	}
	guest_rings_resume(g);
	rings_tell_change(g);
	return rc;
}

static int set_call(struct virtio_device *self, unsigned int index, int *fd,
		    struct umbra_error *err)
{
	struct served_ring *r = ring_get(self, index, err);

	return r ? fd_exchange(guest_rings_of(self), r, &r->front.call_fd, fd, err) : -EINVAL;
}

static int set_err(struct virtio_device *self, unsigned int index, int *fd, struct umbra_error *err)
{
	struct served_ring *r = ring_get(self, index, err);

	return r ? fd_exchange(guest_rings_of(self), r, &r->front.err_fd, fd, err) : -EINVAL;
}

static int ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
		       struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);
	struct served_ring *r = ring_get(self, index, err);

	if (!r)
		return -EINVAL;
	served_ring_pause(g, r);
	r->front.enabled = enabled;
	served_ring_resume(g, r);
	rings_tell_change(g);
	return 0;
}

static int ring_stop(struct virtio_device *self, unsigned int index, struct ring_position *base,
		     struct umbra_error *err)
{
	struct served_ring *r = ring_get(self, index, err);

	if (!r)
		return -EINVAL;
	served_ring_halt(guest_rings_of(self), r);
	*base = r->front.base;
	fd_close(&r->front.kick_fd);
	fd_close(&r->front.call_fd);
	return 0;
}

/* --- features ------------------------------------------------------------------------- */

static int get_features(struct virtio_device *self, uint64_t *features, struct umbra_error *err)
{
	(void)err;
	*features = guest_rings_of(self)->offered;
	return 0;
}

static int set_features(struct virtio_device *self, uint64_t features, struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);
	uint64_t foreign = features & ~(g->offered | BIT64(VHOST_USER_F_PROTOCOL_FEATURES));

	if (foreign)
		return error_set(err, -EINVAL,
				 "0x%" PRIx64 " has bits 0x%" PRIx64 " that were not offered",
				 features, foreign);
	if (!(features & BIT64(VIRTIO_F_VERSION_1)))
		return error_set(err, -EINVAL,
				 "0x%" PRIx64 " lacks VIRTIO_F_VERSION_1: a legacy driver cannot "
				 "be served",
				 features);
	if (features == g->features)
		return 0;
	/* Rings that run were another driver's: they may be anybody's memory now. */
	for (unsigned int i = 0; i < g->kind->count; i++) {
		struct served_ring *r = g->kind->ring(g, i);

		served_ring_halt(g, r);
		r->front.enabled |= !(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
	}
	g->features = features;
	return 0;
}

static int get_protocol_features(struct virtio_device *self, uint64_t *features,
				 struct umbra_error *err)
{
	const struct guest_rings_kind *kind = guest_rings_of(self)->kind;

	(void)err;
	*features = PROTOCOL_FEATURES;
	if (kind->count > 1)
		*features |= BIT64(VHOST_USER_PROTOCOL_F_MQ);
	if (kind->get_config)
		*features |= BIT64(VHOST_USER_PROTOCOL_F_CONFIG);
	return 0;
}

static int set_protocol_features(struct virtio_device *self, uint64_t features,
				 struct umbra_error *err)
{
	(void)self;
	(void)features;
	(void)err;
	return 0;
}

static int get_queue_num(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	(void)err;
	*count = guest_rings_of(self)->kind->count;
	return 0;
}

/* --- memory --------------------------------------------------------------------------- */

static int get_memory_slots(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	(void)self;
	(void)err;
	*count = MEMORY_SLOTS;
	return 0;
}

/* Consumes *@memory on success. */
static int memory_exchange(struct guest_rings *g, struct memory **memory, struct umbra_error *err)
{
	int rc;

	guest_rings_pause(g);
	rc = g->kind->take_memory ? g->kind->take_memory(g, *memory, err) : 0;
	if (rc) {
		guest_rings_resume(g);
		return rc;
	}
	memory_unref(&g->memory);
	g->memory = *memory;
	*memory = NULL;
	rings_each(g, served_ring_follow);
	guest_rings_resume(g);
	rings_tell_change(g);
	return 0;
}

static int set_memory(struct virtio_device *self, const struct memory_region *regions,
		      unsigned int count, struct umbra_error *err)
{
	struct memory *memory = NULL;
	int rc = memory_create(regions, count, &memory, err);

	if (!rc)
		rc = memory_exchange(guest_rings_of(self), &memory, err);
	memory_unref(&memory);
	return rc;
}

static int regions_change(struct virtio_device *self, const struct memory_region *add,
			  unsigned int without, struct umbra_error *err)
{
	const struct memory *memory = guest_rings_of(self)->memory;
	unsigned int count = 0, had = memory ? memory->count : 0;
	struct memory_region *regions = calloc(had + 1, sizeof(*regions));
	int rc;

	if (!regions)
		return error_set(err, -ENOMEM, "no memory for a memory table");
	for (unsigned int i = 0; i < had; i++)
		if (i != without)
			regions[count++] = memory->regions[i];
	if (add)
		regions[count++] = *add;
	rc = set_memory(self, regions, count, err);
	free(regions);
	return rc;
}

static int add_region(struct virtio_device *self, const struct memory_region *region,
		      struct umbra_error *err)
{
	return regions_change(self, region, UINT32_MAX, err);
}

static int remove_region(struct virtio_device *self, const struct memory_region *region,
			 struct umbra_error *err)
{
	const struct memory *memory = guest_rings_of(self)->memory;

	for (unsigned int i = 0; memory && i < memory->count; i++) {
		const struct memory_region *r = &memory->regions[i];

		if (r->gpa.v == region->gpa.v && r->uva.v == region->uva.v &&
		    r->size == region->size)
			return regions_change(self, NULL, i, err);
	}
	return error_set(err, -EINVAL,
			 "there is no region of 0x%" PRIx64 " bytes at gpa 0x%" PRIx64,
			 region->size, region->gpa.v);
}

static const struct memory *memory_of(const struct virtio_device *self)
{
	return ((const struct guest_rings *)(const void *)self)->memory;
}

static bool is_started(const struct virtio_device *self)
{
	struct guest_rings *g = (struct guest_rings *)(const void *)self;

	for (unsigned int i = 0; i < g->kind->count; i++)
		if (served_ring_is_started(g->kind->ring(g, i)))
			return true;
	return false;
}

/* --- configuration space, status, reset ------------------------------------------------- */

static int config_refuse(const struct guest_rings *g, uint32_t offset, uint32_t size,
			 struct umbra_error *err)
{
	return error_set(err, -EINVAL, "offset %u, %u bytes; %s has no configuration", offset, size,
			 g->kind->name);
}

static int get_config(struct virtio_device *self, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);

	return g->kind->get_config ? g->kind->get_config(g, offset, data, size, err)
				   : config_refuse(g, offset, size, err);
}

static int set_config(struct virtio_device *self, uint32_t offset, const void *data, uint32_t size,
		      uint32_t flags, struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);

	(void)flags;
	return g->kind->set_config ? g->kind->set_config(g, offset, data, size, err)
				   : config_refuse(g, offset, size, err);
}

static int get_status(struct virtio_device *self, uint8_t *status, struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);

	(void)err;
	*status = g->status;
	for (unsigned int i = 0; i < g->kind->count; i++)
		if (g->kind->ring(g, i)->state == SERVED_BROKEN)
			*status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	return 0;
}

static int set_status(struct virtio_device *self, uint8_t status, struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);

	(void)err;
	/* "Writing 0 resets the device"; but the rings' fds are the front-end's
	 * business, which stops them by itself. */
	if (!status && g->status && g->kind->status_cleared) {
		guest_rings_pause(g);
		g->kind->status_cleared(g);
		guest_rings_resume(g);
	}
	g->status = status;
	return 0;
}

static int reset(struct virtio_device *self, struct umbra_error *err)
{
	struct guest_rings *g = guest_rings_of(self);

	(void)err;
	rings_each(g, served_ring_forget);
	g->features = 0;
	g->status = 0;
	if (g->kind->reset)
		g->kind->reset(g);
	return 0;
}

/* --- what its session says ---------------------------------------------------------------- */

static void attach(struct virtio_device *self, struct virtio_device *backend)
{
	struct guest_rings *g = guest_rings_of(self);

	(void)backend;
	if (g->kind->attach)
		g->kind->attach(g);
}

void guest_rings_detach(struct guest_rings *g)
{
	rings_each(g, served_ring_forget);
	g->features = 0;
	g->status = 0;
	memory_unref(&g->memory);
	if (g->kind->detach)
		g->kind->detach(g);
}

static void detach(struct virtio_device *self)
{
	guest_rings_detach(guest_rings_of(self));
}

static void check_queues(struct virtio_device *self)
{
	rings_each(guest_rings_of(self), served_ring_check);
}

static const struct virtio_ops guest_rings_ops = {
	.get_features = get_features,
	.set_features = set_features,
	.get_protocol_features = get_protocol_features,
	.set_protocol_features = set_protocol_features,
	.get_queue_num = get_queue_num,
	.get_memory_slots = get_memory_slots,
	.set_memory = set_memory,
	.add_region = add_region,
	.remove_region = remove_region,
	.ring_set_size = set_size,
	.ring_set_addr = set_addr,
	.ring_set_base = set_base,
	.ring_set_kick = set_kick,
	.ring_set_call = set_call,
	.ring_set_err = set_err,
	.ring_enable = ring_enable,
	.ring_stop = ring_stop,
	.get_config = get_config,
	.set_config = set_config,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.attach = attach,
	.detach = detach,
	.check_queues = check_queues,
	.memory = memory_of,
	.is_started = is_started,
};

/* --- life ------------------------------------------------------------------------------- */

void guest_rings_init(struct guest_rings *g, const struct guest_rings_kind *kind,
		      struct device_host *host, uint64_t features)
{
	*g = (struct guest_rings){
		.virtio = { .ops = &guest_rings_ops },
		.kind = kind,
		.host = host,
		.offered = features | BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |
			   BIT64(VIRTIO_RING_F_INDIRECT_DESC),
	};
	for (unsigned int i = 0; i < kind->count; i++)
		guest_ring_init(&kind->ring(g, i)->front, i);
}
