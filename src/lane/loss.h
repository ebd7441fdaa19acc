/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What becomes of a chain that a back-end had when it was lost, and of which nobody knows
 * whether it was done.
 *
 * Theory of operation.  Each device type has a rule (loss.c has the table), which the operator
 * may overrule:
 *
 *	rule	for			what becomes of it
 *	REPLAY	block, scsi		the next back-end is given it again
 *	WIRE	net			as on a wire that was cut: a receive buffer, into which
 *					nothing has come, is given again; a packet to be sent is
 *					lost, and its buffer completed.  A command (it can be read
 *					and written) says how something shall be, and is given again
 *	RESET	fs, vsock, all others	it is given to nobody.  What it would mean to the next
 *					back-end depends on what the lost one knew, so the ring is
 *					broken, and the guest has to reset its device
 *	HOLD	(when told)		it waits for the operator's word
 *
 * A back-end of a RESET type knew something of its guest (files that are open, connections) even
 * where nothing was in flight, so that all its rings are broken, whatever they carried.  So does
 * one of a network card whose guest has a control queue there: what was said on that is not known
 * here, because a vhost-user back-end's is a ring like any other.
 *
 * Rejected: to send a packet again.  A network may lose one, but TCP takes one that comes twice for
 * a loss as well, and a packet that is sent late is worse than none.
 *
 * Threads: the device's.
 */
#ifndef UMBRA_LANE_LOSS_H
#define UMBRA_LANE_LOSS_H

#include "queue/shadow_queue.h"

enum loss_rule { LOSS_REPLAY, LOSS_WIRE, LOSS_RESET, LOSS_HOLD };

/* What the operator has said of one loss. */
enum loss_word { LOSS_UNSAID, LOSS_SAID_REPLAY, LOSS_SAID_RESET };

struct loss_terms {
	uint32_t type; /* virtio device type */
	enum loss_rule rule;
	enum loss_word word; /* of the present loss */
	uint32_t given;      /* in the present return */
	uint32_t dropped;    /* since the loss: what is completed stays so when a return fails */
};

/* The rule of a device type. */
enum loss_rule loss_rule_of(uint32_t type);
/* Does a back-end of that type know something of its guest beside what is in flight? */
bool loss_is_of_state(uint32_t type);

/* As of struct readd_terms, with a struct loss_terms.  It counts. */
enum readd_fate loss_judge(void *terms, const struct memory *memory,
			   const struct ring_chain *chain);

#endif
