/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vhost-user client against a back-end that others wrote:
 * qemu-storage-daemon with a null disk.  Skipped (77) where it is not
 * installed.
 *
 * The daemon inherits a listening socket, so that a connection can be made
 * before it runs and nothing needs to be waited for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/bits.h"
#include "host/mapping.h"
#include "positions.h"
#include "vhost_user/protocol.h"
#include "vhost_user/vhost_user_client.h"
#include "virtio/feature_names.h"

#define DAEMON "/usr/bin/qemu-storage-daemon"
#define LISTEN_FD 9 /* in the daemon */
#define TIMEOUT_MS 600000
#define DISK_BYTES 1073741824u

extern char **environ;

struct daemon {
	char directory[32];
	char path[64];
	pid_t pid;
};

/* Guest memory of one ring and one request. */
#define RING_SIZE 8u
struct guest {
	struct vring_desc desc[RING_SIZE];
	uint16_t avail[3 + RING_SIZE]; /* flags, idx, entries, used_event */
	uint8_t gap[4096 - 16 * RING_SIZE - 2 * (3 + RING_SIZE)];
	uint16_t used[3 + 4 * RING_SIZE]; /* flags, idx, entries, avail_event */
	uint8_t gap2[4096 - 2 * (3 + 4 * RING_SIZE)];
	struct virtio_blk_outhdr header;
	uint8_t status;
	uint8_t gap3[4096 - 17];
	uint8_t data[4096];
};

#define GUEST_GPA UINT64_C(0x100000)
#define GUEST_UVA UINT64_C(0x7f0000000000)
#define GUEST_ADDR(base, member) ((base) + offsetof(struct guest, member))

static void daemon_start(struct daemon *d)
{
	static char *const argv[] = {
		(char *)DAEMON,
		(char *)"--blockdev",
		(char *)"driver=null-co,node-name=f,size=1073741824,read-zeroes=on",
		(char *)"--export",
		(char *)"vhost-user-blk,id=e,node-name=f,writable=on,addr.type=fd,addr.str=9",
		NULL,
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	posix_spawn_file_actions_t actions;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(d->directory, "/tmp/umbra-test-XXXXXX");
	assert_non_null(mkdtemp(d->directory));
	snprintf(d->path, sizeof(d->path), "%s/blk.sock", d->directory);
	strcpy(address.sun_path, d->path);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, LISTEN_FD);
	assert_int_equal(posix_spawn(&d->pid, DAEMON, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(fd);
}

static void daemon_end(struct daemon *d)
{
	int status;

	kill(d->pid, SIGTERM);
	assert_int_equal(waitpid(d->pid, &status, 0), d->pid);
	unlink(d->path);
	rmdir(d->directory);
}

#define check(call)                                                                                \
	do {                                                                                       \
		int rc_ = (call);                                                                  \
		if (rc_)                                                                           \
			fail_msg("%s: %d: %s", #call, rc_, err.text);                              \
	} while (0)

static struct virtio_device *connect_and_negotiate(const struct daemon *d, uint64_t *protocol)
{
	struct umbra_error err = { "" };
	uint64_t features, wanted = BIT64(VIRTIO_F_VERSION_1);
	struct virtio_device *b;
	char text[FEATURES_TEXT_MAX];

	check(vhost_user_client_connect(d->path, -1, TIMEOUT_MS, &b, &err));
	check(b->ops->get_features(b, &features, &err));
	print_message("features: 0x%llx\n", (unsigned long long)features);
	assert_true(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
	assert_true(features & wanted);
	check(b->ops->get_protocol_features(b, protocol, &err));
	print_message("protocol features passed: %s\n",
		      vhost_protocol_features_text(text, sizeof(text), *protocol));
	check(b->ops->set_protocol_features(b, *protocol, &err));
	check(b->ops->set_features(b, wanted | BIT64(VHOST_USER_F_PROTOCOL_FEATURES), &err));
	return b;
}

static void set_guest_memory(struct virtio_device *b, struct memory_region *region)
{
	struct umbra_error err = { "" };

	check(mapping_create_own(sizeof(struct guest), region, &err));
	region->gpa.v = GUEST_GPA;
	region->uva.v = GUEST_UVA;
	check(b->ops->set_memory(b, region, 1, &err));
}

/* Read one sector of the disk as request number @n; the call fd must fire. */
static void read_a_sector(struct guest *g, int kick, int call, uint16_t n)
{
	struct pollfd wait = { .fd = call, .events = POLLIN };
	uint64_t one = 1;

	memset(g->data, 0xaa, 512);
	g->status = 0xff;
	g->header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN, .sector = 7 };
	g->desc[0] = (struct vring_desc){ GUEST_ADDR(GUEST_GPA, header), 16, VRING_DESC_F_NEXT, 1 };
	g->desc[1] = (struct vring_desc){ GUEST_ADDR(GUEST_GPA, data), 512,
					  VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2 };
	g->desc[2] = (struct vring_desc){ GUEST_ADDR(GUEST_GPA, status), 1, VRING_DESC_F_WRITE, 0 };
	g->avail[2 + n % RING_SIZE] = 0;
	__atomic_store_n(&g->avail[1], (uint16_t)(n + 1), __ATOMIC_SEQ_CST);
	assert_int_equal(write(kick, &one, 8), 8);
	/* libvhost-user signals a call fd once when it gets it. */
	do {
		assert_int_equal(poll(&wait, 1, TIMEOUT_MS), 1);
		assert_int_equal(read(call, &one, 8), 8);
	} while (__atomic_load_n(&g->used[1], __ATOMIC_ACQUIRE) == n);
	assert_int_equal(g->used[1], n + 1);
	assert_int_equal(g->status, 0);
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(g->data[i], 0);
}

static struct virtio_ring guest_ring(int kick, int call, uint16_t base)
{
	return (struct virtio_ring){
		.size = RING_SIZE,
		.base = ring_position_split(base),
		.addr = { .desc = { GUEST_ADDR(GUEST_UVA, desc) },
			  .avail = { GUEST_ADDR(GUEST_UVA, avail) },
			  .used = { GUEST_ADDR(GUEST_UVA, used) } },
		.kick_fd = kick,
		.call_fd = call,
		.err_fd = -1,
		.enabled = true,
	};
}

static void ring_starts_serves_stops_and_starts_again_where_it_was(void **state)
{
	struct umbra_error err = { "" };
	struct daemon *d = *state;
	struct memory_region region;
	uint64_t protocol;
	struct virtio_device *b = connect_and_negotiate(d, &protocol);
	int kick = eventfd(0, EFD_CLOEXEC), call = eventfd(0, EFD_CLOEXEC),
	    call2 = eventfd(0, EFD_CLOEXEC);
	struct virtio_ring ring = guest_ring(kick, call, 0);
	struct guest *g;
	uint16_t base;

	set_guest_memory(b, &region);
	g = (struct guest *)(void *)region.host;
	check(b->ops->ring_start(b, 0, &ring, &err));
	read_a_sector(g, kick, call, 0);
	read_a_sector(g, kick, call, 1);
	check(b->ops->ring_exchange(b, 0, VIRTIO_RING_CALL, call2, &err));
	read_a_sector(g, kick, call2, 2);
	check(ring_stop_at(b, 0, &base, &err));
	assert_int_equal(base, 3);
	ring = guest_ring(kick, call, base);
	check(b->ops->ring_start(b, 0, &ring, &err));
	read_a_sector(g, kick, call, 3);
	check(b->ops->ring_enable(b, 0, false, &err));
	check(b->ops->ring_enable(b, 0, true, &err));
	check(ring_stop_at(b, 0, &base, &err));
	assert_int_equal(base, 4);
	b->ops->destroy(b);
	memory_backing_unref(region.backing);
	close(kick);
	close(call);
	close(call2);
}

static void config_space_is_read_and_a_refusal_leaves_the_connection(void **state)
{
	struct umbra_error err = { "" };
	uint64_t protocol, capacity = 0;
	struct virtio_device *b = connect_and_negotiate(*state, &protocol);
	uint8_t config[256];
	uint32_t blk_size = 0;

	assert_true(protocol & BIT64(VHOST_USER_PROTOCOL_F_CONFIG));
	check(b->ops->get_config(b, 0, &capacity, 8, &err));
	assert_int_equal(capacity, DISK_BYTES / 512);
	check(b->ops->get_config(b, offsetof(struct virtio_blk_config, blk_size), &blk_size, 4,
				 &err));
	assert_int_equal(blk_size, 512);
	assert_int_equal(b->ops->get_config(b, 0, config, sizeof(config), &err), -EREMOTEIO);
	print_message("%s\n", err.text);
	assert_int_equal(b->ops->get_config(b, 200, config, 57, &err), -EINVAL);
	check(b->ops->get_config(b, 0, &capacity, 8, &err));
	b->ops->destroy(b);
}

static void regions_come_and_go_one_by_one(void **state)
{
	struct umbra_error err = { "" };
	uint64_t protocol, slots, queues;
	struct virtio_device *b = connect_and_negotiate(*state, &protocol);
	struct memory_region first, more[10];

	check(b->ops->get_queue_num(b, &queues, &err));
	assert_int_equal(queues, 1);
	assert_true(protocol & BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS));
	check(b->ops->get_memory_slots(b, &slots, &err));
	print_message("memory slots: %u\n", (unsigned int)slots);
	assert_true(slots >= 11);
	set_guest_memory(b, &first);
	for (unsigned int i = 0; i < ARRAY_SIZE(more); i++) {
		check(mapping_create_own(8192, &more[i], &err));
		more[i].gpa.v = 0x10000000 + i * 0x10000;
		more[i].uva.v = 0x20000000 + i * 0x10000;
		check(b->ops->add_region(b, &more[i], &err));
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(more); i++)
		check(b->ops->remove_region(b, &more[i], &err));
	check(b->ops->set_memory(b, more, ARRAY_SIZE(more), &err)); /* 8 and 2 */
	check(b->ops->get_queue_num(b, &queues, &err));
	b->ops->destroy(b);
	for (unsigned int i = 0; i < ARRAY_SIZE(more); i++)
		memory_backing_unref(more[i].backing);
	memory_backing_unref(first.backing);
}

/* QEMU 7.2 closes the connection on this one; newer ones may refuse it. */
static void features_without_version_1_are_an_error_not_a_hang(void **state)
{
	struct umbra_error err = { "" };
	uint64_t protocol;
	struct virtio_device *b = connect_and_negotiate(*state, &protocol);
	int rc = b->ops->set_features(b, BIT64(VHOST_USER_F_PROTOCOL_FEATURES), &err);

	print_message("%d: %s\n", rc, err.text);
	assert_true(rc == -ECONNRESET || rc == -EREMOTEIO);
	assert_non_null(strstr(err.text, "SET_FEATURES"));
	b->ops->destroy(b);
}

static void a_killed_daemon_is_a_lost_back_end(void **state)
{
	struct umbra_error err = { "" };
	struct daemon *d = *state;
	uint64_t protocol, features;
	struct virtio_device *b = connect_and_negotiate(d, &protocol);
	struct pollfd wait = { .fd = vhost_user_client_fd(b), .events = POLLIN };

	assert_int_equal(vhost_user_client_check(b, &err), 0);
	kill(d->pid, SIGKILL);
	assert_int_equal(poll(&wait, 1, TIMEOUT_MS), 1);
	assert_int_equal(vhost_user_client_check(b, &err), -ECONNRESET);
	print_message("%s\n", err.text);
	assert_int_equal(b->ops->get_features(b, &features, &err), -ECONNRESET);
	print_message("%s\n", err.text);
	b->ops->destroy(b);
}

static int setup(void **state)
{
	static struct daemon daemon;

	daemon_start(&daemon);
	*state = &daemon;
	return 0;
}

static int teardown(void **state)
{
	daemon_end(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			ring_starts_serves_stops_and_starts_again_where_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(
			config_space_is_read_and_a_refusal_leaves_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(regions_come_and_go_one_by_one, setup, teardown),
		cmocka_unit_test_setup_teardown(features_without_version_1_are_an_error_not_a_hang,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_killed_daemon_is_a_lost_back_end, setup,
						teardown),
	};

	if (access(DAEMON, X_OK)) {
		print_message("%s is not installed: skipped\n", DAEMON);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
