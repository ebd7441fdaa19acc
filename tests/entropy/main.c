/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An entropy device (virtio 1.2, section 5.4), and a program of one: the smallest device there
 * is, to show what a further kind is made of.
 *
 *	entropy_kind	what it is, to umbra's intake of rings (virtio/guest_rings.h)
 *	entropy_program	what its program (cli/program.h) does
 *	table		its options (cli/option_table.h)
 *
 * Messages, rings, sockets, threads, signals, the QMP socket and the end are umbra's.  One
 * queue, whose buffers the device fills with the bytes of a file; no configuration space.
 *
 * Threads: the queue in service belongs to a worker; the rest is the device's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/device_options.h"
#include "cli/options.h"
#include "cli/program.h"
#include "ring/chain_bytes.h"
#include "session/session.h"
#include "virtio/guest_rings.h"

#define BYTES_MAX (16u << 20)
#define FILL_MAX (64u << 10) /* bytes of one buffer: fewer than it has room for may be given */

struct options {
	struct device_options common;
	const char *bytes;
};

struct entropy {
	struct guest_rings rings; /* first: see virtio/guest_rings.h */
	struct served_ring ring;
	uint8_t *bytes; /* that are given, one after the other, and again from the start */
	size_t size, at;
	uint64_t given;
	struct options options;
	struct session session;
	struct program program;
};

/* --- the device -------------------------------------------------------------------------- */

/* Fill what may be written of the chain that was taken. */
static uint32_t fill(struct entropy *e, const struct ring_chain *c, const struct memory *memory)
{
	uint32_t written = 0;

	for (uint32_t i = c->readable; i < c->count; i++) {
		struct ring_seg left = c->segs[i], piece;

		for (; left.len && written < FILL_MAX; left.addr.v += piece.len) {
			piece = left;
			piece.len = MIN(left.len, FILL_MAX - written);
			piece.len = (uint32_t)MIN(piece.len, e->size - e->at);
			segments_write(&piece, 1, memory, e->bytes + e->at);
			e->at = (e->at + piece.len) % e->size;
			written += piece.len;
			left.len -= piece.len;
		}
	}
	return written;
}

static int pass(void *ring, unsigned int *notify)
{
	struct served_ring *r = ring;
	struct entropy *e = (void *)((char *)r - offsetof(struct entropy, ring));
	int rc = device_ring_take(&r->ring, &r->chain);
	uint32_t written;

	*notify = 0;
	if (rc < 0)
		return rc;
	if (!rc)
		return device_ring_arm(&r->ring) ? QUEUE_MORE : 0;
	device_ring_disarm(&r->ring);
	written = fill(e, &r->chain, r->ring.memory);
	device_ring_complete(&r->ring, r->chain.head, written);
	device_ring_publish(&r->ring);
	counter_add(&e->given, written);
	return QUEUE_MORE | (device_ring_must_call(&r->ring) ? QUEUE_CALL_GUEST : 0);
}

static struct served_ring *ring_at(struct guest_rings *g, unsigned int index)
{
	(void)index;
	return &((struct entropy *)(void *)g)->ring;
}

static const struct guest_rings_kind entropy_kind = {
	.name = "an entropy device",
	.count = 1,
	.ring = ring_at,
	.pass = pass,
};

/* --- its program --------------------------------------------------------------------------- */

static int bytes_read(struct entropy *e, struct umbra_error *err)
{
	FILE *file = fopen(e->options.bytes, "re");

	if (!file)
		return error_set(err, -errno, "%s: %s", e->options.bytes, strerror(errno));
	e->bytes = malloc(BYTES_MAX);
	if (e->bytes)
		e->size = fread(e->bytes, 1, BYTES_MAX, file);
	fclose(file);
	return e->size ? 0 : error_set(err, -EINVAL, "%s has no bytes", e->options.bytes);
}

static int entropy_create(void *opaque, struct qmp_target *target, struct umbra_error *err)
{
	struct entropy *e = opaque;
	const struct session_config config = {
		.doorway = {
			.path = e->options.common.socket_path,
			.access = e->options.common.socket_access,
			.connect_path = e->options.common.connect_path,
			.fd = e->options.common.socket_fd,
		},
	};
	int rc = bytes_read(e, err);

	(void)target; /* it has no commands of its own */
	if (rc)
		return rc;
	guest_rings_init(&e->rings, &entropy_kind, session_host(&e->session), 0);
	return session_open(&e->session, NULL, &e->rings.virtio, &config, err);
}

static int entropy_run(void *opaque, struct umbra_error *err)
{
	struct entropy *e = opaque;
	int rc = session_run(&e->session, err);

	log_info("%llu bytes were given", (unsigned long long)e->given);
	return rc;
}

static void entropy_stop(void *opaque)
{
	session_stop(&((struct entropy *)opaque)->session);
}

static void entropy_destroy(void *opaque)
{
	struct entropy *e = opaque;

	session_close(&e->session);
	free(e->bytes);
}

static const struct program_device entropy_program = {
	.create = entropy_create,
	.run = entropy_run,
	.stop = entropy_stop,
	.destroy = entropy_destroy,
};

static int take_path(const struct option_row *row, const char *value, void *place,
		     struct umbra_error *err)
{
	*(const char **)place = value;
	return value[0] ? 0 : error_set(err, -EINVAL, "%s=: expected a path", row->name);
}

static const struct option_row table[] = {
	{ .table = device_options_vm },
	{ .table = device_options_control },
	{ "--name", "ID", "the device's name on the control socket (entropy0)",
	  device_options_take_name, OPTION_PLACE(struct options, common.name) },
	{ "--bytes", "FILE", "give its bytes, again and again (/dev/urandom)", take_path,
	  OPTION_PLACE(struct options, bytes) },
	{ .table = device_options_general },
	{ 0 },
};

static int options_check(const void *options, struct umbra_error *err)
{
	return device_options_check_access(options, err);
}

int main(int argc, char **argv)
{
	static const struct device_options_kind kind = {
		.command = "entropy",
		.usage = "usage: entropy [OPTIONS]\n",
		.table = table,
		.check = options_check,
	};
	static struct entropy e = {
		.program = { .device = &entropy_program, .opaque = &e },
		.options = { .common = { .name = "entropy0", .socket_fd = -1 },
			     .bytes = "/dev/urandom" },
	};
	struct umbra_error err = { "" };

	if (device_options_parse(&kind, &e.options, argc, argv, &err)) {
		fprintf(stderr, "entropy: %s\n", err.text);
		return EXIT_USAGE;
	}
	if (e.options.common.help) {
		device_options_print_help(&kind);
		return EXIT_SUCCESS;
	}
	return program_main(&e.program, &e.options.common);
}
