/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a vhost-vdpa device offers, and how it behaves when it is stopped.
 *
 *	vdpa-probe /dev/vhost-vdpa-N
 *
 * Drives ring 0 of the device by the bare ioctls, without umbra, so that the
 * table in docs/vdpa.md is what devices do and not what umbra makes of them:
 * reads what is offered; then starts the device with empty rings, asks for
 * ring 0's index, suspends and resumes where that is offered, resets, and starts
 * once more at an index of 5.
 *
 * One JSON object on standard output.  An action is "ok" or the name of its
 * errno; a number that could not be had is null:
 *	id, features, backend_features, iova_first, iova_last, queues,
 *	queue_size, groups, address_spaces, config (hexadecimal)
 *	group_asid	ring group 1 moved to address space 1, if there is one
 *	map, map_again	an IOTLB update, and the same one once more
 *	start		FEATURES_OK and DRIVER_OK, each read back
 *	set_base_running, get_base_running
 *	suspend, get_base_suspended, resume
 *	start_at_5	from the features on, ring 0 beginning at 5
 *	get_base_at_5, base_after_reset
 *	unmap
 *
 * Exit status: 0, or 1 if the device cannot be opened or the answers to the
 * first questions are missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

/* What the headers of this release do not name yet. */
#ifndef VHOST_VDPA_GET_AS_NUM
#define VHOST_VDPA_GET_AS_NUM _IOR(VHOST_VIRTIO, 0x7A, unsigned int)
#endif
#ifndef VHOST_VDPA_GET_GROUP_NUM
#define VHOST_VDPA_GET_GROUP_NUM _IOR(VHOST_VIRTIO, 0x81, __u32)
#endif
#ifndef VHOST_VDPA_SET_GROUP_ASID
#define VHOST_VDPA_SET_GROUP_ASID _IOW(VHOST_VIRTIO, 0x7C, struct vhost_vring_state)
#endif
#ifndef VHOST_VDPA_SUSPEND
#define VHOST_VDPA_SUSPEND _IO(VHOST_VIRTIO, 0x7D)
#endif
#ifndef VHOST_VDPA_RESUME
#define VHOST_VDPA_RESUME _IO(VHOST_VIRTIO, 0x7E)
#endif
#define BACKEND_SUSPEND 4
#define BACKEND_RESUME 5

#define MEMORY (1u << 20)
#define IOVA UINT64_C(0x100000)
#define PART (MEMORY / 4) /* of it, for each part of a ring */
#define BASE 5u

static struct {
	int fd;
	uint64_t features, backend_features;
	uint16_t size;
	uint32_t queues;
	void *memory;
	const char *comma;
} p = { .comma = "" };

static void say(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(const char *name, const char *format, ...)
{
	va_list args;

	printf("%s\"%s\": ", p.comma, name);
	p.comma = ", ";
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
}

/* The outcome of an action; returns it. */
static int say_outcome(const char *name, int rc)
{
	if (rc)
		say(name, "\"%s\"", strerrorname_np(errno));
	else
		say(name, "\"ok\"");
	return rc;
}

static int set_status(uint8_t status)
{
	uint8_t seen;

	if (ioctl(p.fd, VHOST_VDPA_SET_STATUS, &status) ||
	    ioctl(p.fd, VHOST_VDPA_GET_STATUS, &seen))
		return -1;
	if (seen == status)
		return 0;
	errno = EREMOTEIO;
	return -1;
}

static int map(uint8_t type)
{
	struct vhost_msg_v2 message = {
		.type = VHOST_IOTLB_MSG_V2,
		.iotlb = { .iova = IOVA,
			   .size = MEMORY,
			   .uaddr = (uintptr_t)p.memory,
			   .perm = VHOST_ACCESS_RW,
			   .type = type },
	};

	return write(p.fd, &message, sizeof(message)) == sizeof(message) ? 0 : -1;
}

/* From features to DRIVER_OK.  A ring that begins at @base has been used so far. */
static int start(unsigned int base)
{
	const uint8_t ready = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	uint64_t features = p.features & ((UINT64_C(1) << VIRTIO_F_VERSION_1) |
					  (UINT64_C(1) << VIRTIO_F_ACCESS_PLATFORM));
	struct vring_avail *avail = (void *)((uint8_t *)p.memory + PART);
	struct vring_used *used = (void *)((uint8_t *)p.memory + 2 * PART);

	avail->idx = used->idx = (uint16_t)base;
	if (set_status(ready) || ioctl(p.fd, VHOST_SET_FEATURES, &features) ||
	    set_status(ready | VIRTIO_CONFIG_S_FEATURES_OK))
		return -1;
	for (unsigned int i = 0; i < p.queues; i++) {
		uint64_t at = IOVA + (i ? 3 * PART : 0);
		struct vhost_vring_state size = { i, p.size }, enable = { i, 1 },
					 first = { i, i ? 0 : base };
		/* The others share an empty ring. */
		struct vhost_vring_addr addr = {
			.index = i,
			.desc_user_addr = at,
			.avail_user_addr = i ? at + PART / 2 : at + PART,
			.used_user_addr = i ? at + PART * 3 / 4 : at + 2 * PART,
		};

		if (ioctl(p.fd, VHOST_SET_VRING_NUM, &size) ||
		    ioctl(p.fd, VHOST_SET_VRING_BASE, &first) ||
		    ioctl(p.fd, VHOST_SET_VRING_ADDR, &addr) ||
		    ioctl(p.fd, VHOST_VDPA_SET_VRING_ENABLE, &enable))
			return -1;
	}
	return set_status(ready | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void say_base(const char *name)
{
	struct vhost_vring_state state = { 0, 0xffff };

	if (ioctl(p.fd, VHOST_GET_VRING_BASE, &state))
		say(name, "null");
	else
		say(name, "%u", state.num);
}

static void say_config(void)
{
	uint32_t size = 0;
	struct vhost_vdpa_config *config;

	if (ioctl(p.fd, VHOST_VDPA_GET_CONFIG_SIZE, &size))
		return;
	config = calloc(1, sizeof(*config) + size);
	if (!config)
		return;
	config->len = size;
	if (!ioctl(p.fd, VHOST_VDPA_GET_CONFIG, config)) {
		say("config", "\"");
		for (uint32_t i = 0; i < size; i++)
			printf("%02x", config->buf[i]);
		printf("\"");
	}
	free(config);
}

static int say_offer(void)
{
	const struct vhost_vring_state group = { 1, 1 };
	struct vhost_vdpa_iova_range range;
	uint32_t id, number, groups = 1;

	if (ioctl(p.fd, VHOST_SET_OWNER) || ioctl(p.fd, VHOST_VDPA_GET_DEVICE_ID, &id) ||
	    ioctl(p.fd, VHOST_GET_FEATURES, &p.features) ||
	    ioctl(p.fd, VHOST_GET_BACKEND_FEATURES, &p.backend_features) ||
	    ioctl(p.fd, VHOST_SET_BACKEND_FEATURES, &p.backend_features) ||
	    ioctl(p.fd, VHOST_VDPA_GET_IOVA_RANGE, &range) ||
	    ioctl(p.fd, VHOST_VDPA_GET_VQS_COUNT, &p.queues) ||
	    ioctl(p.fd, VHOST_VDPA_GET_VRING_NUM, &p.size))
		return -1;
	say("id", "%u", id);
	say("features", "%" PRIu64, p.features);
	say("backend_features", "%" PRIu64, p.backend_features);
	say("iova_first", "%" PRIu64, (uint64_t)range.first);
	say("iova_last", "%" PRIu64, (uint64_t)range.last);
	say("queues", "%u", p.queues);
	say("queue_size", "%u", p.size);
	if (!ioctl(p.fd, VHOST_VDPA_GET_GROUP_NUM, &groups))
		say("groups", "%u", groups);
	if (!ioctl(p.fd, VHOST_VDPA_GET_AS_NUM, &number))
		say("address_spaces", "%u", number);
	if (groups > 1)
		say_outcome("group_asid", ioctl(p.fd, VHOST_VDPA_SET_GROUP_ASID, &group));
	else
		say("group_asid", "null");
	say_config();
	return 0;
}

static void say_behaviour(void)
{
	struct vhost_vring_state base = { 0, BASE };

	say_outcome("map", map(VHOST_IOTLB_UPDATE));
	say_outcome("map_again", map(VHOST_IOTLB_UPDATE));
	set_status(0);
	if (!say_outcome("start", start(0))) {
		say_outcome("set_base_running", ioctl(p.fd, VHOST_SET_VRING_BASE, &base));
		say_base("get_base_running");
		say_outcome("suspend", ioctl(p.fd, VHOST_VDPA_SUSPEND));
		say_base("get_base_suspended");
		say_outcome("resume", ioctl(p.fd, VHOST_VDPA_RESUME));
	}
	set_status(0);
	say_outcome("start_at_5", start(BASE));
	say_base("get_base_at_5");
	set_status(0);
	say_base("base_after_reset");
	say_outcome("unmap", map(VHOST_IOTLB_INVALIDATE));
}

int main(int argc, char **argv)
{
	int memory = memfd_create("vdpa-probe", MFD_CLOEXEC);

	if (argc != 2) {
		fprintf(stderr, "usage: vdpa-probe /dev/vhost-vdpa-N\n");
		return 2;
	}
	p.fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (p.fd < 0 || memory < 0 || ftruncate(memory, MEMORY)) {
		fprintf(stderr, "vdpa-probe: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	p.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (p.memory == MAP_FAILED)
		return 1;
	printf("{");
	if (say_offer()) {
		fprintf(stderr, "vdpa-probe: %s does not say what it offers: %s\n", argv[1],
			strerror(errno));
		return 1;
	}
	say_behaviour();
	printf("}\n");
	close(p.fd);
	close(memory);
	return 0;
}
