/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a front-end said to a device that serves its rings itself, as a record (base/record.h).
 *
 * Theory of operation: nothing but what was said is saved: features, status, memory table, and of
 * each ring its size, addresses, fds, and whether it runs.  rings_inherit() says it again to a
 * device of which nothing was said yet, by the calls that a front-end's messages make, so
 * that it is judged where theirs are.  Where a ring stands is not saved: a program that was killed
 * cannot have said it.  It is where the ring says that it was used, which is right for a device
 * that completes in the order in which it takes, and for which to do again what was not
 * completed is harmless (served_ring.c).
 *
 * Nothing may be served meanwhile (guest_rings_kind::is_served): that begins when the caller knows
 * all that the device has to know.
 *
 * Threads: the device's.
 * Trust: what is read may be anything.
 */
#ifndef UMBRA_SESSION_RINGS_RECORD_H
#define UMBRA_SESSION_RINGS_RECORD_H

#include "base/record.h"
#include "umbra/error.h"
#include "virtio/guest_rings.h"

void rings_save(struct guest_rings *g, struct record *w);

/* After an error the device has to be detached.  -EINVAL, and errors of the calls. */
UMBRA_MUST_CHECK int rings_inherit(struct guest_rings *g, struct record *in,
				   struct umbra_error *err);

/* They are served again: call the guest for each.  Who died between a used index and its call has
 * not. */
void rings_call(struct guest_rings *g);

#endif
