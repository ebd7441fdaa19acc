/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may do what with a memory file that several processes of a machine have.
 *
 * Theory of operation: a device that has guest memory pinned (vDPA) goes on with the
 * pages that it pinned; if another process discards them, the guest gets others, and
 * the device reads and writes what nobody sees.  So the two tell each other, with two
 * byte-range locks on the file itself, at offsets far behind any memory:
 *
 *	PINNED		shared; held by a process for as long as a device has it pinned
 *	DISCARDING	shared; held by a balloon only while it discards
 *
 *	who pins			who discards
 *	lock PINNED			lock DISCARDING
 *	is DISCARDING locked?		is PINNED locked?
 *	  yes: pin anew, before		  yes: do not discard, and not again
 *	  the device starts		discard, unlock
 *	pin
 *
 * Each locks its own before it looks at the other's, so that at least one of them sees
 * the other.  Neither ever waits for a lock: a disk is not refused because a balloon
 * is there, nor can a stranger who locks the file hold anybody up.  Pages that were
 * discarded before they are pinned do no harm: to pin them brings new ones into being,
 * which guest and device share.
 *
 * A lock belongs to an open file description (fcntl(2), F_OFD_SETLK), and fds that
 * came by a unix socket share one with their sender, so that the locks of sender and
 * receiver are one: the file is opened anew through /proc/self/fd.  O_NONBLOCK, since
 * a lease of the front-end's would have us wait.
 *
 * A lock names nobody.  Who pins leaves his name in /run/umbra (root) or in
 * $XDG_RUNTIME_DIR/umbra, for messages alone: nothing is decided by it.  An entry is
 * locked by its owner for as long as it is true; others' folders, links and entries that
 * nobody holds are not believed.
 *
 * What remains: devices that others have pinned (VFIO, RDMA, AF_XDP, a vDPA device of
 * the VMM's own, a back-end that pins) are not seen; umbra balloon --pinned is for them.
 *
 * Ownership: a hold has its fds; what it took goes with it.
 * Threads: one at a time for a hold.
 * Trust: whoever has the file can lock it, and so make a balloon keep what it has.
 */
#ifndef UMBRA_HOST_MEMORY_HOLD_H
#define UMBRA_HOST_MEMORY_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "umbra/error.h"

struct memory_backing;
struct memory_hold;

#define MEMORY_HOLDER_TEXT 96u

/* Open the file of @backing anew, if that has not been done: 0, or -errno of open(2). */
UMBRA_MUST_CHECK int memory_hold_open(struct memory_backing *backing);
/* Give everything up; the backing goes. */
void memory_hold_close(struct memory_backing *backing);

/* From now on it is pinned, for @what (a path, for people).  0, or why that cannot be
 * told to others: -EAGAIN (a stranger has locked the byte for himself), -errno. */
UMBRA_MUST_CHECK int memory_hold_pin(struct memory_backing *backing, const char *what);
/* Is anybody discarding? */
bool memory_hold_is_discarding(const struct memory_backing *backing);

/* May it be discarded?  If so, until memory_hold_discarded(). */
UMBRA_MUST_CHECK bool memory_hold_discard(const struct memory_backing *backing);
void memory_hold_discarded(const struct memory_backing *backing);
bool memory_hold_is_pinned(const struct memory_backing *backing);

/* Who has it pinned, in words: "process 12, for /dev/vhost-vdpa-0". */
void memory_hold_who(const struct memory_backing *backing, char *text, unsigned int size);

#endif
