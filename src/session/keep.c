/* SPDX-License-Identifier: BSD-2-Clause */
/* What outlives this program: see keep.h. */
#include "session/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "host/mapping.h"

#define STATE_NAME FD_STORE_PREFIX "state"
#define STATE_FORM UINT64_C(0x756d6272616b0001) /* "umbrak" and the version of the layout */
#define TEXT_MAX ((size_t)192 << 10)            /* of 512 regions, each below 200 bytes */

struct state_place {
	uint64_t bytes, fd_count;
	uint64_t numbers[FD_STORE_FINDS_MAX];
	char text[TEXT_MAX];
};

struct state {
	uint64_t form;
	uint64_t in_message;
	uint64_t which; /* 1 + the place that counts; 0: neither */
	struct state_place places[2];
};

static struct state *kept_state(const struct keep *k)
{
	return (struct state *)(void *)k->state.host;
}

/*
 * [keep-word] release; peer: the next program.  What was written before it is there when the word
 * is: the kernel keeps the order of a dead process's stores, this keeps the compiler's.
 */
static void kept_store(uint64_t *word, uint64_t v)
{
	__atomic_store_n(word, v, __ATOMIC_RELEASE);
}

static uint64_t kept_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void number_name(uint64_t number, char name[FD_STORE_NAME_SIZE])
{
	snprintf(name, FD_STORE_NAME_SIZE, FD_STORE_PREFIX "%" PRIu64, number);
}

/* --- the fds that are in the store --------------------------------------------------------- */

static int kept_add(struct keep *k, int fd, uint64_t number)
{
	if (k->fd_count == k->fd_room) {
		unsigned int room = k->fd_room ? 2 * k->fd_room : 16;
		struct kept_fd *more = realloc(k->fds, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		k->fds = more;
		k->fd_room = room;
	}
	k->fds[k->fd_count++] = (struct kept_fd){ .fd = fd, .number = number, .is_named = true };
	k->next_number = MAX(k->next_number, number + 1);
	return 0;
}

static struct kept_fd *kept_find(struct keep *k, int fd)
{
	for (unsigned int i = 0; i < k->fd_count; i++)
		if (k->fds[i].fd == fd)
			return &k->fds[i];
	return NULL;
}

/* One that is the same open file as @fd, as memory is of which a front-end has several regions:
 * the manager would take both for one. */
static const struct kept_fd *kept_find_same(const struct keep *k, int fd)
{
	for (unsigned int i = 0; i < k->fd_count; i++)
		if (k->fds[i].fd >= 0 && !syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE,
						  (unsigned long)k->fds[i].fd, (unsigned long)fd))
			return &k->fds[i];
	return NULL;
}

static bool kept_is_needed(const struct keep *k, uint64_t number)
{
	for (unsigned int i = 0; i < k->fd_count; i++)
		if (k->fds[i].number == number && k->fds[i].is_named)
			return true;
	return false;
}

/* Take out of the store what no record names. */
static int kept_drop_unnamed(struct keep *k, struct umbra_error *err)
{
	char name[FD_STORE_NAME_SIZE];
	unsigned int left = 0;
	int rc = 0;

	for (unsigned int i = 0; i < k->fd_count; i++)
		if (!kept_is_needed(k, k->fds[i].number)) {
			number_name(k->fds[i].number, name);
			rc = rc ? rc : fd_store_remove(&k->store, name, err);
		}
	for (unsigned int i = 0; i < k->fd_count; i++)
		if (k->fds[i].is_named)
			k->fds[left++] = k->fds[i];
	k->fd_count = left;
	return rc;
}

/* The number of @fd, which is put into the store if it is not there. */
static int kept_name(struct keep *k, int fd, uint64_t *number, struct umbra_error *err)
{
	struct kept_fd *kept = kept_find(k, fd);
	const struct kept_fd *same;
	char name[FD_STORE_NAME_SIZE];
	int rc = 0;

	if (kept) {
		kept->is_named = true;
		*number = kept->number;
		return 0;
	}
	same = kept_find_same(k, fd);
	*number = same ? same->number : k->next_number;
	number_name(*number, name);
	if (!same)
		rc = fd_store_put(&k->store, fd, name, err);
	if (rc)
		return rc;
	return kept_add(k, fd, *number) ? error_set(err, -ENOMEM, "no memory for the name of an fd")
					: 0;
}

/* --- writing -------------------------------------------------------------------------------- */

static void keep_nothing(struct keep *k, const struct umbra_error *why)
{
	struct umbra_error ignored;

	kept_store(&kept_state(k)->which, 0);
	for (unsigned int i = 0; i < k->fd_count; i++)
		k->fds[i].is_named = false;
	(void)kept_drop_unnamed(k, &ignored);
	keep_end(k);
	log_warning("%s: nothing is kept any more that could outlive this program", why->text);
}

static bool is_as_before(const struct keep *k, const struct record *r)
{
	return k->last.text && r->bytes == k->last.bytes && r->fd_count == k->last.fd_count &&
	       !memcmp(r->text, k->last.text, r->bytes) &&
	       (!r->fd_count || !memcmp(r->fds, k->last.fds, r->fd_count * sizeof(*r->fds)));
}

static int state_write(struct keep *k, const struct record *r, struct umbra_error *err)
{
	struct state *state = kept_state(k);
	unsigned int place = kept_load(&state->which) == 1;
	struct state_place *p = &state->places[place];
	int rc = record_check(r);

	if (rc || r->bytes > TEXT_MAX || r->fd_count > FD_STORE_FINDS_MAX)
		return error_set(err, rc ? rc : -E2BIG,
				 "the state of the device has %zu bytes and %u fds; expected up to "
				 "%zu and %u",
				 r->bytes, r->fd_count, TEXT_MAX, FD_STORE_FINDS_MAX);
	for (unsigned int i = 0; i < k->fd_count; i++)
		k->fds[i].is_named = false;
	for (unsigned int i = 0; i < r->fd_count; i++) {
		rc = kept_name(k, r->fds[i], &p->numbers[i], err);
		if (rc)
			return rc;
	}
	p->bytes = r->bytes;
	p->fd_count = r->fd_count;
	memcpy(p->text, r->text, r->bytes);
	kept_store(&state->which, 1 + place);
	return kept_drop_unnamed(k, err);
}

void keep_begin_message(struct keep *k)
{
	if (k->state.host)
		kept_store(&kept_state(k)->in_message, 1);
}

void keep_write(struct keep *k, struct record *record)
{
	struct umbra_error err = { "" };

	if (k->state.host && !is_as_before(k, record) && state_write(k, record, &err))
		keep_nothing(k, &err);
	record_free(&k->last);
	k->last = *record;
	*record = (struct record){ .bytes = 0 };
	if (k->state.host)
		kept_store(&kept_state(k)->in_message, 0);
}

/* --- what was kept -----------------------------------------------------------------------------
 */

static int map_state(struct keep *k, int *fd, struct umbra_error *err)
{
	const struct mapping_request request = { .size = sizeof(struct state) };
	int rc = mapping_create(fd, &request, &k->state, err);

	return rc ? error_prefix(err, rc, "the state") : 0;
}

/* One that a record has named before. */
static int fd_again(const uint64_t *numbers, const int *fds, unsigned int at)
{
	for (unsigned int i = 0; i < at; i++)
		if (numbers[i] == numbers[at] && fds[i] >= 0)
			return fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
	return -1;
}

/* Each fd goes to its place in the record; -1 where the store has it no more. */
static int fds_gather(const uint64_t *numbers, unsigned int count, struct fd_store_find *finds,
		      unsigned int find_count, int **out)
{
	int *fds = calloc(count + 1, sizeof(*fds));
	char name[FD_STORE_NAME_SIZE];

	if (!fds)
		return -ENOMEM;
	for (unsigned int i = 0; i < count; i++) {
		fds[i] = fd_again(numbers, fds, i);
		number_name(numbers[i], name);
		for (unsigned int j = 0; fds[i] < 0 && j < find_count; j++)
			if (finds[j].fd >= 0 && !strcmp(finds[j].name, name))
				fds[i] = fd_take(&finds[j].fd);
	}
	*out = fds;
	return 0;
}

/* Copy what counts. */
static int state_read(struct keep *k, struct fd_store_find *finds, unsigned int find_count,
		      struct umbra_error *err)
{
	const struct state *state = kept_state(k);
	uint64_t which = kept_load(&state->which), bytes, fd_count;
	static uint64_t numbers[FD_STORE_FINDS_MAX];
	const struct state_place *p;
	char *text;
	int *fds;
	int rc;

	if (kept_load(&state->form) != STATE_FORM || which < 1 || which > 2)
		return error_set(err, -EINVAL, "the state is of another form, or there is none");
	p = &state->places[which - 1];
	bytes = kept_load(&p->bytes);
	fd_count = kept_load(&p->fd_count);
	if (bytes > TEXT_MAX || fd_count > FD_STORE_FINDS_MAX)
		return error_set(err, -EINVAL, "a state of %" PRIu64 " bytes and %" PRIu64 " fds",
				 bytes, fd_count);
	memcpy(numbers, p->numbers, fd_count * sizeof(numbers[0]));
	text = malloc(bytes + 1);
	if (!text || fds_gather(numbers, (unsigned int)fd_count, finds, find_count, &fds)) {
		free(text);
		return error_set(err, -ENOMEM, "no memory for a state of %" PRIu64 " bytes", bytes);
	}
	memcpy(text, p->text, bytes);
	k->found_in_message = kept_load(&state->in_message);
	for (unsigned int i = 0; i < fd_count; i++)
		if (fds[i] >= 0 && kept_add(k, fds[i], numbers[i]))
			log_warning("an fd of the state is kept in vain");
	rc = record_read(&k->found, text, bytes, fds, (unsigned int)fd_count, err);
	return rc;
}

/* Nobody needs it: neither we, nor the store. */
static void find_drop(struct keep *k, struct fd_store_find *find)
{
	struct umbra_error err;

	fd_close(&find->fd);
	if (fd_store_remove(&k->store, find->name, &err))
		log_warning("%s: %s stays there", err.text, find->name);
}

static int state_make(struct keep *k, struct umbra_error *err)
{
	int rc = mapping_create_own(sizeof(struct state), &k->state, err);

	if (rc)
		return rc;
	kept_store(&kept_state(k)->form, STATE_FORM);
	return fd_store_put(&k->store, k->state.backing->fd, STATE_NAME, err);
}

/* The state that was kept, if there is one that can be read. */
static void state_find(struct keep *k, struct fd_store_find *finds, unsigned int count)
{
	struct umbra_error err = { "" };

	for (unsigned int i = 0; i < count; i++)
		if (!strcmp(finds[i].name, STATE_NAME)) {
			if (!map_state(k, &finds[i].fd, &err) && !state_read(k, finds, count, &err))
				return;
			log_warning("what the program before has left is not used: %s", err.text);
			keep_end(k);
			k->fd_count = 0;
		}
}

int keep_open(struct keep *k, struct umbra_error *err)
{
	static struct fd_store_find finds[FD_STORE_FINDS_MAX];
	unsigned int count;
	int rc;

	*k = KEEP_NOTHING;
	rc = fd_store_open(&k->store, err);
	if (rc)
		return rc;
	count = fd_store_find(finds);
	state_find(k, finds, count);
	if (k->state.host) {
		for (unsigned int i = 0; i < count; i++)
			if (finds[i].fd >= 0)
				find_drop(k, &finds[i]);
		return 0;
	}
	for (unsigned int i = 0; i < count; i++)
		find_drop(k, &finds[i]);
	k->next_number = 0;
	return state_make(k, err);
}

void keep_forget_found(struct keep *k)
{
	/* What nobody has taken is closed, and others may get its number. */
	for (unsigned int i = 0; i < k->found.fd_count; i++)
		for (unsigned int j = 0; j < k->fd_count; j++)
			if (k->fds[j].fd == k->found.fds[i])
				k->fds[j].fd = -1;
	record_free(&k->found);
	k->found_in_message = false;
}

void keep_end(struct keep *k)
{
	if (k->state.host)
		memory_backing_unref(k->state.backing);
	k->state = (struct memory_region){ .size = 0 };
}

void keep_close(struct keep *k)
{
	record_free(&k->found);
	record_free(&k->last);
	free(k->fds);
	keep_end(k);
	fd_store_close(&k->store);
	*k = KEEP_NOTHING;
}
