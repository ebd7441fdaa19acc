/* SPDX-License-Identifier: BSD-2-Clause */
/* Which memory may be discarded: see discard_policy.h. */
#include "host/discard_policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/balloon_host.h"
#include "host/file_kind.h"
#include "host/memory_hold.h"

int discard_policy_init(struct discard_policy *policy, const char *const *files, unsigned int count)
{
	*policy = (struct discard_policy){ .files = calloc(count ? count : 1, sizeof(char *)) };
	if (!policy->files)
		return -ENOMEM;
	for (; policy->file_count < count; policy->file_count++) {
		char *copy = strdup(files[policy->file_count]);

		if (!copy) {
			discard_policy_fini(policy);
			return -ENOMEM;
		}
		policy->files[policy->file_count] = copy;
	}
	return 0;
}

void discard_policy_fini(struct discard_policy *policy)
{
	for (unsigned int i = 0; i < policy->file_count; i++)
		free(policy->files[i]);
	free(policy->files);
	*policy = (struct discard_policy){ 0 };
}

/* Looked up each time: the VMM may make the file only now. */
static bool is_named(const struct discard_policy *policy, const struct memory_backing *b)
{
	uint64_t device, inode;

	for (unsigned int i = 0; i < policy->file_count; i++)
		if (!file_identify(policy->files[i], &device, &inode) && inode == b->file_inode &&
		    device == b->file_device)
			return true;
	return false;
}

static void keep_set(struct memory_backing *b, enum balloon_keep keep)
{
	/* Release; peer: the acquire in balloon_keep_text(), before it reads keep_who. */
	__atomic_store_n(&b->keeps, keep, __ATOMIC_RELEASE);
}

void discard_policy_judge(const struct discard_policy *policy, struct memory_backing *b)
{
	enum balloon_keep keep = BALLOON_KEEP_NOTHING;
	int rc;

	if (__atomic_load_n(&b->keeps, __ATOMIC_RELAXED) == BALLOON_KEEP_HELD)
		return;
	if (policy->pinned)
		keep = BALLOON_KEEP_PINNED;
	else if (!b->file_is_memory)
		keep = BALLOON_KEEP_FILE;
	else if (b->file_links)
		keep = BALLOON_KEEP_NAMED;
	if (!policy->pinned && keep != BALLOON_KEEP_NOTHING && is_named(policy, b))
		keep = BALLOON_KEEP_NOTHING;
	rc = keep == BALLOON_KEEP_NOTHING ? memory_hold_open(b) : 0;
	if (rc) {
		keep = BALLOON_KEEP_UNKNOWN;
		snprintf(b->keep_who, sizeof(b->keep_who), "%s", strerror(-rc));
	}
	keep_set(b, keep);
	if (keep == BALLOON_KEEP_NOTHING && memory_hold_is_pinned(b))
		discard_policy_hold(b);
}

void discard_policy_hold(struct memory_backing *b)
{
	memory_hold_who(b, b->keep_who, sizeof(b->keep_who));
	keep_set(b, BALLOON_KEEP_HELD);
}
