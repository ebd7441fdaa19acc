/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shadow device with its sockets and threads, as a program that embeds it
 * sees it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "umbra/shadow_device.h"

static unsigned int open_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned int count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

struct watch {
	struct umbra_shadow_device *device;
	int front_fd; /* closed by the test when the device has both connections */
	unsigned int fds_while_connected, fds_while_waiting;
};

static void on_event(void *opaque, const struct umbra_event *event)
{
	struct watch *w = opaque;

	if (event->kind != UMBRA_EVENT_STATE)
		return;
	if (event->to == UMBRA_DEVICE_NEGOTIATING) {
		w->fds_while_connected = open_fds();
		close(w->front_fd);
	} else if (event->to == UMBRA_DEVICE_WAITING) {
		w->fds_while_waiting = open_fds();
		umbra_shadow_device_stop(w->device);
	}
}

/* Who hears that the device waits may count on it: nothing is left of the
 * front-end that has gone, nor of its back-end's connection. */
static void test_waiting_is_said_when_all_is_closed(void **state)
{
	char directory[] = "/tmp/umbra-unit-XXXXXX", front[64], back[64], backend[80];
	struct watch w = { 0 };
	const struct umbra_shadow_config config = {
		UMBRA_SIZED(umbra_shadow_config),
		.socket_path = front,
		.socket_fd = -1,
		.backend = backend,
		.on_event = on_event,
		.opaque = &w,
	};
	struct umbra_error err = { "" };
	unsigned int fds_before;
	int back_fd;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(front, sizeof(front), "%s/front", directory);
	snprintf(back, sizeof(back), "%s/back", directory);
	snprintf(backend, sizeof(backend), "unix:%s", back);
	back_fd = listen_at(back);
	assert_int_equal(umbra_shadow_device_create(&config, &w.device, &err), 0);
	fds_before = open_fds();
	w.front_fd = connect_to(front);
	assert_int_equal(umbra_shadow_device_run(w.device, &err), 0);
	assert_true(w.fds_while_connected > fds_before + 1);
	assert_int_equal(w.fds_while_waiting, fds_before);
	umbra_shadow_device_destroy(&w.device);
	close(back_fd);
	unlink(back);
	rmdir(directory);
}

struct answers {
	struct umbra_shadow_device *device;
	int load, save, again;
};

static void saved(void *opaque, int result, const void *bytes, size_t size,
		  const struct umbra_error *err)
{
	struct answers *a = opaque;

	(void)bytes;
	assert_int_equal(size, 0);
	assert_non_null(strstr(err->text, "no control queue"));
	a->save = result;
	umbra_shadow_device_stop(a->device);
}

static void busy(void *opaque, int result, const struct umbra_error *err)
{
	struct answers *a = opaque;

	assert_non_null(strstr(err->text, "another request"));
	a->again = result;
}

static void loaded(void *opaque, int result, const struct umbra_error *err)
{
	struct answers *a = opaque;

	(void)err;
	a->load = result;
	/* Who has the answer may ask again at once. */
	assert_int_equal(umbra_shadow_device_save_control(a->device, saved, a), 0);
}

static void test_control_state_is_loaded_before_a_front_end_comes(void **state)
{
	static const uint8_t empty[] = { 0x55, 0x4d, 0x4e, 0x43, 1, 0, 0, 0, 0, 0, 0, 0 };
	char directory[] = "/tmp/umbra-unit-XXXXXX", front[64];
	const struct umbra_shadow_config config = {
		UMBRA_SIZED(umbra_shadow_config),
		.socket_path = front,
		.socket_fd = -1,
		.backend = "vdpa:/nowhere",
	};
	struct umbra_shadow_picture *picture = NULL;
	struct umbra_error err = { "" };
	struct answers a = { .load = 1, .save = 1, .again = 1 };

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(front, sizeof(front), "%s/front", directory);
	assert_int_equal(umbra_shadow_device_create(&config, &a.device, &err), 0);
	assert_int_equal(
		umbra_shadow_device_load_control(a.device, empty, sizeof(empty), loaded, &a), 0);
	assert_int_equal(umbra_shadow_device_load_control(a.device, empty, sizeof(empty), busy, &a),
			 0);
	assert_int_equal(a.again, -EBUSY);
	assert_int_equal(umbra_shadow_device_run(a.device, &err), 0);
	assert_int_equal(a.load, 0);
	assert_int_equal(a.save, -EOPNOTSUPP);
	assert_int_equal(umbra_shadow_device_query(a.device, &picture), 0);
	assert_true(umbra_shadow_picture_control(picture)->is_waiting);
	assert_false(umbra_shadow_picture_control(picture)->is_followed);
	assert_int_equal(umbra_shadow_picture_device(picture)->queue_count, 0);
	assert_null(umbra_shadow_picture_queue(picture, 0));
	assert_string_equal(umbra_shadow_picture_backend(picture)->kind, "");
	umbra_shadow_picture_destroy(&picture);
	assert_null(picture);
	assert_int_equal(
		umbra_shadow_device_load_control(a.device, empty, sizeof(empty), loaded, &a),
		-ECANCELED);
	assert_int_equal(umbra_shadow_device_save_control(a.device, saved, &a), -ECANCELED);
	umbra_shadow_device_destroy(&a.device);
	rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waiting_is_said_when_all_is_closed),
		cmocka_unit_test(test_control_state_is_loaded_before_a_front_end_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
