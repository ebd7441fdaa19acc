/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line of "umbra shadow".
 *
 * Implements: the vhost-user specification, "Backend program conventions", and
 * its schema vhost-user.json for --print-capabilities.
 */
#include "cli/shadow_options.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "umbra/ring.h"

#define DEADLINE_MAX_MS 3600000u   /* an hour; longer is a typing error */
#define HOLD_LIMIT_MAX_S 31536000u /* a year */
#define THREADS_MAX 64u            /* more are refused by the device */
#define LISTEN "listen:"           /* of --backend */
#define NAME "shadow0"             /* without --name */

/* In the order of enum umbra_shadow_mode. */
static const char *const mode_words[] = { "auto", "on", "off", NULL };

/* Those of which a request may be done twice or not at all, and some of the others, which are
 * treated alike; no type has the number of the last. */
static const char *const type_words[] = { "block", "scsi",  "net",     "fs",    "vsock",
					  "gpu",   "input", "console", "other", NULL };
static const uint32_t types[] = { VIRTIO_ID_BLOCK, VIRTIO_ID_SCSI,    VIRTIO_ID_NET,
				  VIRTIO_ID_FS,    VIRTIO_ID_VSOCK,   VIRTIO_ID_GPU,
				  VIRTIO_ID_INPUT, VIRTIO_ID_CONSOLE, UINT32_MAX };
_Static_assert(ARRAY_SIZE(types) + 1 == ARRAY_SIZE(type_words), "a number for each word");

/* In the order of enum umbra_on_loss, of which the first is what is so without a word. */
static const char *const loss_words[] = { "replay", "reset", "hold", NULL };

/*
 * The schema has no type for "whatever the back-end is", so the program says
 * what it is tested with.  The type "block" may list "read-only" and
 * "blk-file"; those are options of the real back-end.
 */
void shadow_print_capabilities(void)
{
	puts("{\n  \"type\": \"block\",\n  \"features\": []\n}");
}

static int take_backend(const struct option_row *row, const char *value, void *place,
			struct umbra_error *err)
{
	static const char *const sockets[] = { "unix:", LISTEN };
	static const char vdpa_scheme[] = "vdpa:";

	*(const char **)place = value;
	for (size_t i = 0; i < ARRAY_SIZE(sockets); i++)
		if (!strncmp(value, sockets[i], strlen(sockets[i])))
			return option_socket_path(row->name, value + strlen(sockets[i]), err);
	if (!strncmp(value, vdpa_scheme, strlen(vdpa_scheme)) && value[strlen(vdpa_scheme)])
		return 0;
	return error_set(err, -EINVAL, "%s=%.80s: expected unix:PATH, listen:PATH or vdpa:PATH",
			 row->name, value);
}

static int take_shadow(const struct option_row *row, const char *value, void *place,
		       struct umbra_error *err)
{
	unsigned int choice = 0;
	int result = option_choice(row->name, value, row->words, &choice, err);

	*(enum umbra_shadow_mode *)place = (enum umbra_shadow_mode)choice;
	return result;
}

static int take_device_type(const struct option_row *row, const char *value, void *place,
			    struct umbra_error *err)
{
	unsigned int choice = 0;
	int rc = option_choice(row->name, value, row->words, &choice, err);

	*(uint32_t *)place = types[choice];
	return rc;
}

static int take_on_loss(const struct option_row *row, const char *value, void *place,
			struct umbra_error *err)
{
	unsigned int choice = 0;
	int rc = option_choice(row->name, value, row->words, &choice, err);

	*(enum umbra_on_loss *)place = (enum umbra_on_loss)(UMBRA_LOSS_REPLAY + choice);
	return rc;
}

static int take_memory(const struct option_row *row, const char *value, void *place,
		       struct umbra_error *err)
{
	uint64_t *bytes = place;
	int rc = option_size(row->name, value, bytes, err);

	if (!rc && (*bytes % 4096 || *bytes > UINT64_C(1) << 40))
		rc = error_set(err, -EINVAL,
			       "%s=%.80s: expected whole pages of 4096 bytes, 1T at most",
			       row->name, value);
	return rc;
}

#define PLACE(member) OPTION_PLACE(struct shadow_options, member)

static const struct option_row table[] = {
	{ .table = device_options_vm },
	{ "--backend", "unix:PATH", "the back-end's vhost-user socket", take_backend,
	  PLACE(config.backend) },
	{ "--backend", "listen:PATH", "listen for the back-end here, for one that connects",
	  .take = NULL },
	{ "--backend", "vdpa:PATH", "a vDPA device of the kernel's: /dev/vhost-vdpa-0",
	  .take = NULL },
	{ .table = device_options_control },
	{ "--shadow", "auto|on|off",
	  "auto (the default): pass through until told otherwise;\n"
	  "on, off: always, never forward",
	  take_shadow, PLACE(config.mode), .words = mode_words },
	{ "--reconnect", NULL,
	  "hold the guest's requests while the back-end is away, and\n"
	  "go on with the next one; always shadowed then (it needs\n"
	  "a --device-type)",
	  option_take_flag, PLACE(config.reconnect) },
	{ "--hold-limit", "SECONDS",
	  "how long a device is held at most, before its back-end\n"
	  "counts as lost (no limit)",
	  option_take_number, PLACE(config.hold_limit_s), 1, HOLD_LIMIT_MAX_S },
	{ "--device-type", "TYPE",
	  "what the back-end is: block, scsi, net, fs, vsock, gpu,\n"
	  "input, console or other",
	  take_device_type, PLACE(config.device_type), .words = type_words },
	{ "--on-loss", "RULE",
	  "what becomes of requests that a lost back-end had:\n"
	  "replay: given again; reset: the guest has to reset its\n"
	  "device; hold: you are asked (default: by the type)",
	  take_on_loss, PLACE(config.on_loss), .words = loss_words },
	{ "--name", "ID", "the device's name on the control socket (" NAME ")",
	  device_options_take_name, PLACE(common.name) },
	{ "--switch-deadline", "MS", "how long a switch waits for the back-end (5000)",
	  option_take_number, PLACE(config.switch_deadline_ms), 1, DEADLINE_MAX_MS },
	{ "--threads", "N", "how many threads forward (1)", option_take_number,
	  PLACE(config.threads), 1, THREADS_MAX },
	{ "--table-max", "N",
	  "the longest indirect table that a guest may build, in\n"
	  "descriptors, where its queue is shorter (2048)",
	  option_take_number, PLACE(config.table_max), 1, UMBRA_RING_SIZE_MAX },
	{ "--shadow-memory", "SIZE",
	  "how much memory of umbra's own the back-end maps at most\n"
	  "(64M; 8M where it can be given no more later)",
	  take_memory, PLACE(config.shadow_memory) },
	{ .table = device_options_general },
	{ 0 },
};

static bool is_backend_at(const char *backend, const char *path)
{
	return option_is_same_path(strchr(backend, ':') + 1, path);
}

static int check_together(const void *opaque, struct umbra_error *err)
{
	const struct shadow_options *options = opaque;
	const struct device_options *common = &options->common;
	const char *backend = options->config.backend;

	if (!backend)
		return error_set(err, -EINVAL,
				 "expected --backend=unix:PATH, listen:PATH or vdpa:PATH: the "
				 "back-end; see umbra help shadow");
	if (options->config.reconnect && !options->config.device_type)
		return error_set(
			err, -EINVAL,
			"--reconnect: expected --device-type=block, scsi, net or another as "
			"well, since it depends on that whether a request may be done twice");
	if (options->config.on_loss != UMBRA_LOSS_BY_TYPE && !options->config.reconnect)
		return error_set(err, -EINVAL,
				 "--on-loss: without --reconnect nothing is given to the next "
				 "back-end, expected both or none");
	if (options->config.reconnect && options->config.mode == UMBRA_SHADOW_OFF)
		return error_set(
			err, -EINVAL,
			"--reconnect: what the back-end has is known only of a device that "
			"is shadowed, expected --shadow=on or none");
	/* The socket of --backend=listen: has the same access. */
	if (strncmp(backend, LISTEN, strlen(LISTEN)) != 0 && !common->socket_path &&
	    (common->socket_access.mode || common->socket_access.sets_group))
		return error_set(err, -EINVAL,
				 "--socket-mode and --socket-group are for the sockets of "
				 "--socket-path and --backend=listen:, and neither is given");
	if (common->connect_path && is_backend_at(backend, common->connect_path))
		return error_set(err, -EINVAL,
				 "--backend=%.80s: the same socket as --connect, expected the "
				 "back-end's",
				 backend);
	if (common->socket_path && is_backend_at(backend, common->socket_path))
		return error_set(err, -EINVAL,
				 "--backend=%.80s: the same socket as --socket-path, where umbra "
				 "itself listens for the VM, expected the back-end's",
				 backend);
	if (common->qmp_path && is_backend_at(backend, common->qmp_path))
		return error_set(
			err, -EINVAL,
			"--backend=%.80s: the same socket as --control, where umbra itself "
			"listens for control clients, expected the back-end's",
			backend);
	return 0;
}

static const struct device_options_kind kind = {
	.command = "shadow",
	.usage = "usage: umbra shadow --socket-path=PATH|--connect=PATH|--fd=N\n"
		 "                    [OPTION...] --backend=unix:PATH|listen:PATH|vdpa:PATH\n"
		 "\n"
		 "Stand between a VM, which speaks vhost-user, and a virtio back-end, and forward\n"
		 "the guest's virtqueues through rings of umbra's own when asked to.\n",
	.table = table,
	.check = check_together,
};

void shadow_print_help(void)
{
	device_options_print_help(&kind);
}

int shadow_options_parse(struct shadow_options *options, int argc, char **argv,
			 struct umbra_error *err)
{
	int result;

	*options = (struct shadow_options){
		.common = { .name = NAME, .socket_fd = -1 },
		.config = { UMBRA_SIZED(umbra_shadow_config), .mode = UMBRA_SHADOW_AUTO },
	};
	result = device_options_parse(&kind, options, argc, argv, err);
	options->config.name = options->common.name;
	options->config.socket_path = options->common.socket_path;
	options->config.connect_path = options->common.connect_path;
	options->config.socket_fd = options->common.socket_fd;
	options->config.socket_access = options->common.socket_access;
	return result;
}
