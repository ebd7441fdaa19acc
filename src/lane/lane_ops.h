/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the ways in which a back-end can have a ring do differently.
 *
 * Theory of operation.  lane.c takes each step of a life in the same order for all: what may be
 * done when (lane_state.h), what the back-end and the guest are told, what is noted.  What is
 * in between an implementation says, one for each enum lane_kind and in a file each: passed.c,
 * shadowed.c, followed.c, and broken.c for a ring that broke where no queue of ours is.  An
 * implementation changes no state.  NULL: there is nothing to be done.
 *
 * A lane without a back-end (held: the guest's chains wait) has its place here, too: an
 * implementation whose is_idle() is 1 at once, and whose start() asks nobody.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_LANE_OPS_H
#define UMBRA_LANE_LANE_OPS_H

#include "lane/lane.h"

struct lane_ops {
	/* Bytes of our own memory for a ring of @size entries. */
	size_t (*own_bytes)(uint16_t size, uint64_t features, const struct lane_context *c);
	/* Make what is ours of it, and hand the ring to the back-end.  After an error nothing is
	 * left of that. */
	int (*start)(struct lane *r, const struct lane_context *c, bool enabled,
		     struct umbra_error *err);
	/* Before it is served and kicked for the first time: -EPROTO, it must be broken. */
	int (*go)(struct lane *r, const struct lane_context *c, struct umbra_error *err);
	/* How it is served; NULL: not by us. */
	void (*service)(struct lane *r, struct queue_service *service);

	/* It is served no more: have the back-end take no more.  May be late: is_idle(). */
	int (*hush)(struct lane *r, const struct lane_context *c, struct umbra_error *err);
	/* As of lane_is_idle(). */
	int (*is_idle)(struct lane *r, const struct lane_context *c, uint16_t *left,
		       struct umbra_error *err);
	/* The back-end is about to be asked to stop. */
	void (*silence)(struct lane *r);
	/* It has stopped, and stands at @base; @answer: or (a device that is stopped as a whole)
	 * could not say.  -EPROTO: it cannot stand there, or the queue is broken. */
	int (*halt)(struct lane *r, const struct lane_context *c, int answer,
		    struct ring_position base, struct umbra_error *err);
	/* Complete to the guest what has been used since: 0, -EPROTO. */
	int (*drain)(struct lane *r, const struct lane_context *c);
	/* Chains that a halted ring waits for; NULL: 0. */
	uint16_t (*undrained)(const struct lane *r);
	/* As of lane_left(), of one that runs; NULL: 0. */
	uint16_t (*left)(const struct lane *r);
	/* Hand the ring to the back-end again where it was halted.  NULL: a halted one does not
	 * resume. */
	int (*restart)(struct lane *r, const struct lane_context *c, struct umbra_error *err);
	/* Leave the guest's ring to others: where they can go on is noted. */
	void (*finish)(struct lane *r, const struct lane_context *c);
	/* Have whoever uses the front-end's fd of kind @which use @fd in its place:
	 * lane_exchange(). NULL: nobody does. */
	int (*use_fd)(struct lane *r, const struct lane_context *c, enum virtio_ring_fd which,
		      int fd, struct umbra_error *err);

	/* The back-end is gone: complete what it has used, and note all that it has not, for the
	 * next.  0, -EPROTO: broken.  NULL: nobody knows what it has. */
	int (*hold)(struct lane *r, const struct lane_context *c);

	/* The guest's ring was found elsewhere. */
	void (*find)(struct lane *r, const struct lane_context *c);
	/* It breaks: note what the back-end keeps, where no queue of ours knows it. */
	void (*broke)(struct lane *r, const struct lane_context *c);
	/* Never write to the guest's ring again. */
	void (*abandon)(struct lane *r);
	/* Why its queue is broken, as a sentence.  Returns @text.  NULL: it has none. */
	char *(*error)(const struct lane *r, char *text, size_t size);
	/* Free what start() made, and note what that leaves behind. */
	void (*let_go)(struct lane *r, const struct lane_context *c);
};

extern const struct lane_ops lane_passed, lane_shadowed, lane_followed;
/* Of a ring that broke while it was passed through, or at no back-end: nobody of us touches it. */
extern const struct lane_ops lane_untouched;

#endif
