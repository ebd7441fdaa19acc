/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program of one version of umbra's headers, on a library of another: see
 * check-generations, which makes the two versions.
 *
 * It has each struct that can grow judged, filled or lent: a front-end of its own, in front
 * of a shadow device, in front of a balloon, and a shadow queue between two rings.  What it
 * hands over ends where its memory ends, so that who reads or writes what only another version
 * knows ends the program.
 *
 *	generations old|new old|new FOLDER
 *
 * Which it is, and which the library is; the new headers come with -DNEW, and there every
 * struct that can grow ends in `uint64_t added[8]`.
 */
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <umbra/balloon.h>
#include <umbra/shadow_device.h>
#include <umbra/shadow_queue.h>

#define REGIONS 3u
#define REGION_BYTES 0x200000u

static struct umbra_error error;
static bool library_is_new; /* it knows what was added */
static int events, balloon_events;

/* @size bytes at the end of a page, behind which there is none; all of them are @fill. */
static void *at_the_edge(size_t size, int fill)
{
	const size_t page = 4096, room = (size + page - 1) / page * page;
	char *start =
		mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED || munmap(start + room, page) ||
	    mmap(start + room, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		    MAP_FAILED)
		err(1, "mmap");
	memset(start, 0x5a, room);
	return memset(start + room - size, fill, size);
}

static const void *config_at_the_edge(const void *config, size_t size)
{
	return memcpy(at_the_edge(size, 0), config, size);
}
#define AT_THE_EDGE(config) config_at_the_edge(&(config), sizeof(config))

/* What a library of this age does not know it leaves 0. */
#ifdef NEW
static void added_is_zero(const uint64_t added[8])
{
	for (int i = 0; i < 8; i++)
		if (added[i])
			errx(1, "what was added is not 0");
}
#define CHECK_GIVEN(info) added_is_zero((info)->added)
#define CHECK_LENT(info)                                                                           \
	do {                                                                                       \
		if (UMBRA_KNOWS(info, added) != library_is_new)                                    \
			errx(1, #info ": %zu bytes are known, of %zu", (info)->struct_size,        \
			     sizeof(*(info)));                                                     \
	} while (0)
#else
#define CHECK_GIVEN(info) ((void)(info))
#define CHECK_LENT(info)                                                                           \
	do {                                                                                       \
		if ((info)->struct_size < sizeof(*(info)))                                         \
			errx(1, #info ": %zu bytes are known, of %zu", (info)->struct_size,        \
			     sizeof(*(info)));                                                     \
	} while (0)
#endif

/* A newer program may say what an older library cannot do: it must not be ignored. */
#ifdef NEW
#define CHECK_SAID(create, config, what)                                                           \
	do {                                                                                       \
		const int expected = library_is_new ? 0 : -E2BIG;                                  \
		int rc;                                                                            \
		(config).added[7] = 1;                                                             \
		rc = create(AT_THE_EDGE(config), &(what), &error);                                 \
		if (rc != expected)                                                                \
			errx(1, #create ": %d, expected %d", rc, expected);                        \
		if (rc == 0)                                                                       \
			create##_undo(&(what));                                                    \
		(config).added[7] = 0;                                                             \
	} while (0)
#define umbra_driver_ring_create_undo umbra_driver_ring_destroy
#define umbra_device_ring_create_undo umbra_device_ring_destroy
#define umbra_shadow_queue_create_undo umbra_shadow_queue_destroy
#define umbra_balloon_create_undo umbra_balloon_destroy
#define umbra_shadow_device_create_undo umbra_shadow_device_destroy
#else
#define CHECK_SAID(create, config, what) ((void)0)
#endif

static void rings(void)
{
	struct umbra_driver_ring_config driver_config = { UMBRA_SIZED(umbra_driver_ring_config),
							  .size = 8 };
	struct umbra_device_ring_config device_config = { UMBRA_SIZED(umbra_device_ring_config) };
	struct umbra_shadow_queue_config queue_config = { UMBRA_SIZED(umbra_shadow_queue_config) };
	struct umbra_shadow_queue_info *info = at_the_edge(sizeof(*info), 0xee);
	struct umbra_driver_ring *driver;
	struct umbra_device_ring *device;
	struct umbra_shadow_queue *queue;

	CHECK_SAID(umbra_driver_ring_create, driver_config, driver);
	if (umbra_driver_ring_create(AT_THE_EDGE(driver_config), &driver, &error))
		errx(1, "%s", error.text);
	umbra_driver_ring_parts(driver, &device_config.parts);
	CHECK_SAID(umbra_device_ring_create, device_config, device);
	if (umbra_device_ring_create(AT_THE_EDGE(device_config), &device, &error))
		errx(1, "%s", error.text);
	queue_config.front = AT_THE_EDGE(device_config);
	queue_config.back = AT_THE_EDGE(driver_config);
	CHECK_SAID(umbra_shadow_queue_create, queue_config, queue);
	if (umbra_shadow_queue_create(AT_THE_EDGE(queue_config), &queue, &error))
		errx(1, "%s", error.text);
	umbra_shadow_queue_query(queue, info, sizeof(*info));
	if (info->requests || info->in_flight || info->table_longest)
		errx(1, "a new shadow queue has requests");
	CHECK_GIVEN(info);
	umbra_shadow_queue_destroy(&queue);
	umbra_device_ring_destroy(&device);
	umbra_driver_ring_destroy(&driver);
}

static void on_event(void *opaque, const struct umbra_event *event)
{
	(void)opaque;
	CHECK_LENT(event);
	if (event->kind == UMBRA_EVENT_STATE && !umbra_device_state_name(event->to))
		errx(1, "state %d has no name", event->to);
	__atomic_fetch_add(&events, 1, __ATOMIC_RELEASE);
}

static void on_balloon_event(void *opaque, enum umbra_balloon_event_kind kind,
			     const struct umbra_balloon_info *info)
{
	(void)opaque;
	(void)kind;
	CHECK_LENT(info);
	__atomic_fetch_add(&balloon_events, 1, __ATOMIC_RELEASE);
}

static void *run_shadow(void *opaque)
{
	struct umbra_error failed;

	if (umbra_shadow_device_run(opaque, &failed))
		errx(1, "%s", failed.text);
	return NULL;
}

static void *run_balloon(void *opaque)
{
	struct umbra_error failed;

	if (umbra_balloon_run(opaque, &failed))
		errx(1, "%s", failed.text);
	return NULL;
}

/* --- a front-end, as far as a queue's size --------------------------------- */

enum { GET_FEATURES = 1, SET_FEATURES = 2, SET_OWNER = 3, SET_MEM_TABLE = 5, SET_VRING_NUM = 8 };

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		struct {
			uint32_t count, padding;
			struct {
				uint64_t gpa, size, uva, offset;
			} regions[REGIONS];
		} table;
	};
} __attribute__((packed));

static void say(int s, const struct message *m, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * REGIONS)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)m, .iov_len = 12 + m->size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * REGIONS);
		for (unsigned int i = 0; i < REGIONS; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &fd, sizeof(int));
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
	}
	if (sendmsg(s, &msg, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		err(1, "sendmsg");
}

static void front_end(int s)
{
	struct message table = { .request = SET_MEM_TABLE,
				 .flags = 1,
				 .size = 8 + REGIONS * 32,
				 .table.count = REGIONS };
	struct message m = { .request = SET_OWNER, .flags = 1 };
	int fd = memfd_create("guest", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, REGIONS * REGION_BYTES))
		err(1, "memfd_create");
	say(s, &m, -1);
	m.request = GET_FEATURES;
	say(s, &m, -1);
	if (recv(s, &m, 12 + sizeof(m.u64), MSG_WAITALL) != 12 + sizeof(m.u64))
		err(1, "recv");
	m = (struct message){ .request = SET_FEATURES,
			      .flags = 1,
			      .size = sizeof(m.u64),
			      .u64 = m.u64 & UINT64_C(1) << 32 };
	say(s, &m, -1);
	for (unsigned int i = 0; i < REGIONS; i++) {
		table.table.regions[i].gpa = i * UINT64_C(0x40000000);
		table.table.regions[i].uva = table.table.regions[i].gpa + 0x10000;
		table.table.regions[i].size = REGION_BYTES;
		table.table.regions[i].offset = i * UINT64_C(0x200000);
	}
	say(s, &table, fd);
	close(fd);
	m = (struct message){ .request = SET_VRING_NUM,
			      .flags = 1,
			      .size = sizeof(m.u64),
			      .u64 = UINT64_C(128) << 32 };
	say(s, &m, -1);
}

/* --- what is known of both devices -------------------------------------------- */

/* Until it is looked again; the test has a deadline. */
static void moment(void)
{
	nanosleep(&(const struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static void look_at_balloon(struct umbra_balloon *balloon)
{
	struct umbra_balloon_info *info = at_the_edge(sizeof(*info), 0xee);
	struct umbra_balloon_region *regions = at_the_edge(REGIONS * sizeof(*regions), 0xee);

	/* The shadow's own memory may be one more. */
	while (umbra_balloon_regions(balloon, regions, sizeof(*regions), REGIONS) < REGIONS ||
	       !__atomic_load_n(&balloon_events, __ATOMIC_ACQUIRE))
		moment();
	for (unsigned int i = 0; i < REGIONS; i++) {
		if (regions[i].gpa != i * UINT64_C(0x40000000) || regions[i].size != REGION_BYTES)
			errx(1, "region %u is at %#lx", i, (unsigned long)regions[i].gpa);
		CHECK_GIVEN(&regions[i]);
	}
	umbra_balloon_query(balloon, info, sizeof(*info));
	if (info->memory_regions < REGIONS || info->frontends != 1 || info->stats.present)
		errx(1, "the balloon knows %u regions of %lu front-ends", info->memory_regions,
		     (unsigned long)info->frontends);
	CHECK_LENT(info);
	CHECK_GIVEN(info);
}

static void look_at_shadow(struct umbra_shadow_device *device)
{
	const struct umbra_net_control_info *control;
	const struct umbra_backend_info *backend;
	const struct umbra_queue_info *queue;
	const struct umbra_shadow_info *info;
	struct umbra_shadow_picture *picture;

	for (;;) {
		if (umbra_shadow_device_query(device, &picture))
			errx(1, "no memory");
		info = umbra_shadow_picture_device(picture);
		if (info->queue_count)
			break;
		umbra_shadow_picture_destroy(&picture);
		moment();
	}
	CHECK_LENT(info);
	backend = umbra_shadow_picture_backend(picture);
	CHECK_LENT(backend);
	control = umbra_shadow_picture_control(picture);
	CHECK_LENT(control);
	if (strcmp(backend->kind, "vhost-user") || control->is_followed)
		errx(1, "the back-end is a \"%s\"", backend->kind);
	for (unsigned int i = 0; i < info->queue_count; i++) {
		queue = umbra_shadow_picture_queue(picture, i);
		CHECK_LENT(queue);
		if (queue->size != 128 || queue->started || queue->error[0])
			errx(1, "queue %u has %u entries: %s", i, queue->size, queue->error);
	}
	umbra_shadow_picture_destroy(&picture);
}

static void front_end_socket(int pair[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err(1, "socketpair");
}

static void devices(const char *folder)
{
	char path[64], backend[80];
	struct umbra_balloon_config balloon_config = { UMBRA_SIZED(umbra_balloon_config),
						       .name = "balloon", .socket_path = path,
						       .socket_fd = -1,
						       .on_event = on_balloon_event };
	struct umbra_shadow_config shadow_config = { UMBRA_SIZED(umbra_shadow_config),
						     .name = "shadow", .backend = backend,
						     .on_event = on_event };
	struct umbra_shadow_device *shadow;
	struct umbra_balloon *balloon;
	pthread_t threads[2];
	int pair[2];

	snprintf(path, sizeof(path), "%s/balloon.sock", folder);
	snprintf(backend, sizeof(backend), "unix:%s", path);
	CHECK_SAID(umbra_balloon_create, balloon_config, balloon);
	if (umbra_balloon_create(AT_THE_EDGE(balloon_config), &balloon, &error))
		errx(1, "%s", error.text);
	/* The one that is judged by what is said may take its socket. */
	front_end_socket(pair);
	shadow_config.socket_fd = pair[1];
	CHECK_SAID(umbra_shadow_device_create, shadow_config, shadow);
	close(pair[0]);
	front_end_socket(pair);
	shadow_config.socket_fd = pair[1];
	if (umbra_shadow_device_create(AT_THE_EDGE(shadow_config), &shadow, &error))
		errx(1, "%s", error.text);
	if (pthread_create(&threads[0], NULL, run_balloon, balloon) ||
	    pthread_create(&threads[1], NULL, run_shadow, shadow))
		errx(1, "no thread");

	front_end(pair[0]);
	look_at_balloon(balloon);
	look_at_shadow(shadow);

	close(pair[0]);
	pthread_join(threads[1], NULL);
	umbra_balloon_stop(balloon);
	pthread_join(threads[0], NULL);
	umbra_shadow_device_destroy(&shadow);
	umbra_balloon_destroy(&balloon);
	if (!events)
		errx(1, "the shadow device told of no event");
}

int main(int argc, char *argv[])
{
#ifdef NEW
	const char *const i_am = "new";
#else
	const char *const i_am = "old";
#endif

	if (argc != 4 || strcmp(argv[1], i_am))
		errx(1, "usage: generations %s old|new FOLDER", i_am);
	library_is_new = !strcmp(argv[2], "new");
	rings();
	devices(argv[3]);
	return 0;
}
