/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A balloon that outlives its program: what of it is kept (keep.h), and how it goes on.
 *
 * Theory of operation: the record has what the balloon knows first, and then, if one is connected,
 * the front-end and what it said.  Where the second part is of no use (a message was on its
 * way, the front-end has gone meanwhile), the first is taken all the same, and waits for a
 * front-end that comes back.
 *
 * What a front-end has said while nobody listened lies in its socket, and may be that its rings
 * are somebody else's memory by now: no ring is served before all of it is heard.
 *
 * Threads: the device's.
 */
#ifndef UMBRA_SESSION_BALLOON_KEEP_H
#define UMBRA_SESSION_BALLOON_KEEP_H

#include "balloon/balloon_device.h"
#include "session/keep.h"
#include "session/session.h"

/* Write down how it stands, unless a message is on its way. */
void balloon_keep_write(struct keep *k, const struct session *s, struct balloon_device *d);

/* Go on where a program before us was, if there was one.  True: nothing is served from here on. */
bool balloon_keep_go_on(struct keep *k, struct session *s, struct balloon_device *d);

/* Has the front-end, if there is one, said all that it had to say? */
bool balloon_keep_is_heard(const struct session *s);

/* Serve, and call the guest for what it may not have heard. */
void balloon_keep_serve(struct balloon_device *d);

#endif
