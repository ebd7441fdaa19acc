/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vhost-user disk that does wrong where it is told to, a simulated peer for tests.
 *
 *	blk-back --socket=PATH --disk=FILE [OPTION ...]
 *
 *	--generations=FILE	who wrote each sector last (default: the disk's name and ".gen";
 *				disk.h)
 *	--journal=FILE		each step is a line of JSON there, written before it is taken
 *	--plan=PLAN		what shall go wrong (plan.h)
 *	--manner=NAME		the family whose habits it has: rust-vmm (default), libvhost-user,
 *				drain (server.h)
 *	--queues=N		(default 1)
 *	--inflight		offer INFLIGHT_SHMFD
 *	--no-event-idx, --no-indirect	do not offer them
 *	--order=random|in|reverse	in which requests are executed (default random)
 *	--seed=N		of that order (default 1)
 *	--batch=N		completions that are published at once (default: all there are)
 *	--depth=N		requests that are in flight at once (default: all there are)
 *	--capacity=N		sectors that the front-end is told (default: those of the disk)
 *
 * Commands are lines of its standard input, each answered by a line of JSON on standard output:
 *
 *	plan PLAN	in place of the one before; what it did remains done
 *	go		it goes on after "hang"; else those who linger go on, and are done when
 *			this is answered, and what was kept is completed
 *	capacity N	the disk has N sectors from now on, and the front-end is told
 *	state		what it is doing
 *	stop		end; so does the end of input
 *
 * Theory of operation.  One thread, which waits for a front-end, its messages, kicks and commands;
 * one front-end after the other.  The hook of the points writes the journal, asks the plan, and
 * does what that says.  A line of the journal is {"point": N, "at": "before used-idx", "instance":
 * I, "queue": Q, "requests": [...], "heads": [...], "value": V}, and "message", "sector"
 * (before execute) or "late" where there are such; where the plan says something, "did" is what.
 *
 * Who hangs up ("close") leaves the midst of its work by longjmp(), and forgets the connection. Who
 * lingers forks before: the child has what the connection told, and nothing of it but the
 * sockets.
 *
 * Exit status: 0; 1: an error, with a line on standard error; 2: usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "plan.h"
#include "server.h"

#define LINGERERS_MOST 16u
#define LINE_MOST 1024u

static struct {
	struct blk_server server;
	struct blk_plan plan;
	const char *socket, *disk, *generations, *journal;
	int listener, journal_fd;
	uint64_t points;
	bool hangs;
	unsigned int turn; /* the source that is asked first */
	jmp_buf hung_up;
	/* those who linger wait for a byte, and hang up when they are done; of one, its end */
	int lingerers[LINGERERS_MOST];
	unsigned int lingerer_count;
	int waits_for; /* -1: this is no lingerer */
	char input[LINE_MOST];
	size_t input_bytes;
} m;

/* ---- the journal ------------------------------------------------------------------- */

static void journal_write(const struct blk_point *p, enum blk_action did)
{
	/* A request is 40 bytes at the most here; who has more in a batch gets a long line. */
	char fixed[4096], *line = fixed;
	size_t room = 512 + 40ul * p->about_count, n;

	if (m.journal_fd < 0)
		return;
	if (room > sizeof(fixed) && !(line = malloc(room)))
		abort();
	n = (size_t)sprintf(line,
			    "{\"point\": %" PRIu64 ", \"at\": \"%s %s\", \"instance\": %" PRIu64
			    ", \"queue\": %u, \"value\": %" PRIu64,
			    m.points, p->after ? "after" : "before", blk_store_name(p->store),
			    m.server.disk.instance, p->queue, p->value);
	for (unsigned int which = 0; which < 2 && p->about_count; which++) {
		n += (size_t)sprintf(line + n, ", \"%s\": [", which ? "heads" : "requests");
		for (unsigned int i = 0; i < p->about_count; i++)
			n += (size_t)sprintf(line + n, "%s%" PRIu64, i ? ", " : "",
					     which ? p->about[i].head : p->about[i].number);
		n += (size_t)sprintf(line + n, "]");
	}
	if (p->message)
		n += (size_t)sprintf(line + n, ", \"message\": %u", p->message);
	if (p->store == BLK_EXECUTE && !p->after)
		n += (size_t)sprintf(line + n, ", \"sector\": %" PRIu64, p->sector);
	if (p->late)
		n += (size_t)sprintf(line + n, ", \"late\": true");
	if (did)
		n += (size_t)sprintf(line + n, ", \"did\": \"%s\"", blk_action_name(did));
	n += (size_t)sprintf(line + n, "}\n");
	/* O_APPEND: whole, also beside a lingerer's. */
	if (write(m.journal_fd, line, n) != (ssize_t)n)
		abort();
	if (line != fixed)
		free(line);
}

/* ---- what goes wrong ------------------------------------------------------------------ */

static void command_wait(void);

static void hang(void)
{
	char go;

	if (m.waits_for >= 0) {
		if (read(m.waits_for, &go, 1) != 1)
			_exit(0);
		return;
	}
	m.hangs = true;
	while (m.hangs)
		command_wait();
}

/* A child goes on with what is under way, when it is told; we have hung up. */
static void linger(void)
{
	int ends[2];

	if (m.lingerer_count == LINGERERS_MOST ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		abort();
	switch (fork()) {
	case -1:
		abort();
	case 0:
		close(m.server.connection);
		m.server.connection = -1;
		if (m.server.channel >= 0)
			close(m.server.channel);
		m.server.channel = -1;
		close(m.listener);
		close(ends[1]);
		for (unsigned int i = 0; i < m.lingerer_count; i++)
			close(m.lingerers[i]);
		m.waits_for = ends[0];
		for (unsigned int i = 0; i < BLK_QUEUES_MOST; i++)
			m.server.queues[i].queue.takes_no_more = true;
		hang();
		return;
	default:
		close(ends[0]);
		m.lingerers[m.lingerer_count++] = ends[1];
		longjmp(m.hung_up, 1);
	}
}

static enum blk_verdict reach(void *opaque, struct blk_point *p)
{
	enum blk_action action;

	(void)opaque;
	m.points++;
	action = m.waits_for < 0 ? blk_plan_ask(&m.plan, p) : BLK_NOTHING;
	journal_write(p, action);
	switch (action) {
	case BLK_DIE:
		raise(SIGKILL);
		abort();
	case BLK_HANG:
		hang();
		return BLK_GO_ON;
	case BLK_CLOSE:
		longjmp(m.hung_up, 1);
	case BLK_LINGER:
		linger();
		return BLK_GO_ON;
	case BLK_KEEP_IT:
		return BLK_KEEP;
	case BLK_SKIP_IT:
		return BLK_SKIP;
	default:
		return BLK_GO_ON;
	}
}

/* What a lingerer had under way is done. */
static void lingerer_end(void)
{
	if (m.waits_for >= 0)
		_exit(0);
}

/* ---- commands ---------------------------------------------------------------------------- */

static void answer_state(void)
{
	const struct blk_server *s = &m.server;

	printf(", \"hangs\": %s, \"connected\": %s, \"instance\": %" PRIu64 ", \"points\": %" PRIu64
	       ", \"requests\": %" PRIu64 ", \"kept\": %u, \"late\": %" PRIu64
	       ", \"lingering\": %u",
	       m.hangs ? "true" : "false", s->connection >= 0 ? "true" : "false", s->disk.instance,
	       m.points, s->numbers, blk_server_kept(s), s->disk.generations->late,
	       m.lingerer_count);
}

/* 0, 1: after the answer; a negative code: refused. */
static int go_command(const char *rest, struct umbra_error *err)
{
	(void)rest;
	(void)err;
	if (m.hangs) {
		m.hangs = false;
		return 0;
	}
	for (; m.lingerer_count; m.lingerer_count--) {
		int fd = m.lingerers[m.lingerer_count - 1];
		char end;

		if (write(fd, "g", 1) != 1 || read(fd, &end, 1) != 0)
			fprintf(stderr, "blk-back: one that lingered is gone\n");
		close(fd);
	}
	return 1;
}

static int execute(char *line, struct umbra_error *err)
{
	char *rest = strchr(line, ' ');

	if (rest)
		*rest++ = '\0';
	if (!strcmp(line, "plan"))
		return blk_plan_make(&m.plan, rest ? rest : "", err);
	if (!strcmp(line, "go"))
		return go_command(rest, err);
	if (!strcmp(line, "capacity")) {
		blk_server_resize(&m.server, rest ? strtoull(rest, NULL, 0) : 0);
		return 0;
	}
	if (!strcmp(line, "state"))
		return 0;
	if (!strcmp(line, "stop"))
		exit(0);
	return error_set(err, -EINVAL, "no command '%s'", line);
}

static void command_run(char *line)
{
	struct umbra_error err = { "" };
	int rc = execute(line, &err);

	printf("{\"command\": \"%s\"", line);
	if (rc < 0)
		printf(", \"error\": \"%s\"", err.text);
	answer_state();
	printf("}\n");
	fflush(stdout);
	if (rc == 1 && blk_server_kept(&m.server) && !blk_server_release(&m.server, &err)) {
		fprintf(stderr, "blk-back: it hangs up: %s\n", err.text);
		blk_server_forget(&m.server);
	}
}

/* What there is of standard input, whole lines; waits for something. */
static void command_wait(void)
{
	ssize_t n = read(STDIN_FILENO, m.input + m.input_bytes, sizeof(m.input) - m.input_bytes);
	char *end;

	if (n <= 0)
		exit(0);
	m.input_bytes += (size_t)n;
	while ((end = memchr(m.input, '\n', m.input_bytes))) {
		char line[LINE_MOST];
		size_t bytes = (size_t)(end - m.input);

		memcpy(line, m.input, bytes);
		line[bytes] = '\0';
		m.input_bytes -= bytes + 1;
		memmove(m.input, end + 1, m.input_bytes);
		command_run(line);
	}
	if (m.input_bytes == sizeof(m.input))
		exit(1);
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* What is waited for, but for the tester, who comes first. */
enum { SOURCE_LISTENER, SOURCE_CONNECTION, SOURCE_QUEUES };
enum { SOURCES = SOURCE_QUEUES + BLK_QUEUES_MOST };

static bool serve_source(unsigned int source, struct umbra_error *err)
{
	struct blk_server *s = &m.server;

	if (source == SOURCE_LISTENER) {
		int fd = accept4(m.listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			blk_server_accept(s, &fd);
		return true;
	}
	if (source == SOURCE_CONNECTION)
		return blk_server_receive(s, err);
	return blk_server_kicked(s, source - SOURCE_QUEUES, err);
}

/* One that is ready, and then the others' turn: a ring that is kicked without a pause must not
 * keep the front-end from being heard, nor one ring the other. */
static bool serve_once(struct umbra_error *err)
{
	struct blk_server *s = &m.server;
	struct pollfd fds[SOURCES + 1];

	for (unsigned int i = 0; i < SOURCES + 1; i++)
		fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
	if (s->connection < 0)
		fds[SOURCE_LISTENER].fd = m.listener;
	if (blk_server_listens(s))
		fds[SOURCE_CONNECTION].fd = s->connection;
	for (unsigned int i = 0; i < BLK_QUEUES_MOST; i++)
		fds[SOURCE_QUEUES + i].fd = s->queues[i].kick_fd;
	fds[SOURCES].fd = STDIN_FILENO;
	if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		return true;
	if (fds[SOURCES].revents) {
		command_wait();
		return true;
	}
	for (unsigned int i = 0; i < SOURCES; i++) {
		unsigned int source = (m.turn + i) % SOURCES;

		if (fds[source].revents) {
			m.turn = (source + 1) % SOURCES;
			return serve_source(source, err);
		}
	}
	return true;
}

static void serve(void)
{
	struct umbra_error err = { "" };

	if (setjmp(m.hung_up))
		blk_server_forget(&m.server);
	for (;;) {
		bool ok = serve_once(&err);

		lingerer_end();
		if (ok)
			continue;
		if (err.text[0])
			fprintf(stderr, "blk-back: it hangs up: %s\n", err.text);
		blk_server_forget(&m.server);
	}
}

/* ---- the program --------------------------------------------------------------------------------
 */

static int usage(const char *why)
{
	fprintf(stderr, "blk-back: %s\nusage: blk-back --socket=PATH --disk=FILE [OPTION ...]\n",
		why);
	return 2;
}

static bool parse_number(const char *text, uint64_t most, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(text, &end, 0);
	return !errno && end != text && !*end && *text != '-' && *v <= most;
}

static bool parse_order(const char *text, enum blk_order *order)
{
	static const char *const names[] = { "random", "in", "reverse" };

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(text, names[i])) {
			*order = (enum blk_order)i;
			return true;
		}
	return false;
}

static bool parse_option(int option, const char *text, struct blk_server_options *o)
{
	struct umbra_error err;
	uint64_t v = 0;
	bool ok = true;

	switch (option) {
	case 's':
		m.socket = text;
		break;
	case 'd':
		m.disk = text;
		break;
	case 'g':
		m.generations = text;
		break;
	case 'j':
		m.journal = text;
		break;
	case 'p':
		ok = blk_plan_make(&m.plan, text, &err) == 0;
		break;
	case 'm':
		o->manner = blk_manner_find(text);
		ok = o->manner != NULL;
		break;
	case 'q':
		ok = parse_number(text, BLK_QUEUES_MOST, &v) && v;
		o->queues = (unsigned int)v;
		break;
	case 'f':
		o->inflight = true;
		break;
	case 'e':
		o->event_idx = false;
		break;
	case 'i':
		o->indirect = false;
		break;
	case 'o':
		ok = parse_order(text, &o->queue.order);
		break;
	case 'x':
		ok = parse_number(text, UINT64_MAX, &o->queue.seed);
		break;
	case 'b':
		ok = parse_number(text, 32768, &v);
		o->queue.batch = (unsigned int)v;
		break;
	case 'n':
		ok = parse_number(text, 32768, &v);
		o->queue.depth = (unsigned int)v;
		break;
	case 'c':
		ok = parse_number(text, UINT64_MAX, &m.server.capacity);
		break;
	default:
		ok = false;
	}
	return ok;
}

static int listen_at(const char *path, struct umbra_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG, "%s: too long for a socket", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	/* One that was killed has left its own behind. */
	unlink(path);
	m.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (m.listener < 0 || bind(m.listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(m.listener, 4))
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

static int open_all(struct umbra_error *err)
{
	char generations[4096];
	int rc;

	snprintf(generations, sizeof(generations), "%s.gen", m.disk);
	m.journal_fd = -1;
	if (m.journal) {
		m.journal_fd = open(m.journal, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (m.journal_fd < 0)
			return error_set(err, -errno, "%s: %s", m.journal, strerror(errno));
	}
	rc = blk_disk_open(&m.server.disk, m.disk, m.generations ? m.generations : generations,
			   err);
	if (!m.server.capacity)
		m.server.capacity = m.server.disk.sectors;
	return rc ? rc : listen_at(m.socket, err);
}

int main(int argc, char **argv)
{
	static const struct blk_hook hook = { NULL, reach };
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "disk", required_argument, NULL, 'd' },
		{ "generations", required_argument, NULL, 'g' },
		{ "journal", required_argument, NULL, 'j' },
		{ "plan", required_argument, NULL, 'p' },
		{ "manner", required_argument, NULL, 'm' },
		{ "queues", required_argument, NULL, 'q' },
		{ "inflight", no_argument, NULL, 'f' },
		{ "no-event-idx", no_argument, NULL, 'e' },
		{ "no-indirect", no_argument, NULL, 'i' },
		{ "order", required_argument, NULL, 'o' },
		{ "seed", required_argument, NULL, 'x' },
		{ "batch", required_argument, NULL, 'b' },
		{ "depth", required_argument, NULL, 'n' },
		{ "capacity", required_argument, NULL, 'c' },
		{ 0 },
	};
	struct umbra_error err;
	int option;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	m.waits_for = -1;
	m.server.hook = &hook;
	m.server.options = (struct blk_server_options){ .manner = blk_manner_find("rust-vmm"),
							.queues = 1,
							.event_idx = true,
							.indirect = true,
							.queue.seed = 1 };
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!parse_option(option, optarg, &m.server.options))
			return usage("an option or its value is not understood");
	if (!m.socket || !m.disk || argv[optind])
		return usage("--socket and --disk are needed");
	blk_server_init(&m.server);
	if (open_all(&err)) {
		fprintf(stderr, "blk-back: %s\n", err.text);
		return 1;
	}
	serve();
}
