/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shadow queue as it is, but that the calls that write to the flight table can be left out,
 * one kind at a time (wrong.h).
 */
#include "queue/shadow_queue.h"
#include "wrong.h"

#define UNLESS(fault, call) (wrong == (fault) ? (void)0 : call)

/* A macro does not expand its own name: each stands for the function of that name. */
#define flight_renew(t) UNLESS(WRONG_NO_RENEW, flight_renew(t))
#define flight_prepare(t, e, id, asks, writable)                                                   \
	UNLESS(WRONG_NO_PREPARE, flight_prepare(t, e, id, asks, writable))
#define flight_take(t, e) UNLESS(WRONG_NO_TAKE, flight_take(t, e))
#define flight_hand_over(t) UNLESS(WRONG_NO_HAND_OVER, flight_hand_over(t))
#define flight_note(t, head) UNLESS(WRONG_NO_NOTE, flight_note(t, head))
#define flight_untake(t, head) UNLESS(WRONG_NO_UNTAKE, flight_untake(t, head))
#define flight_hand_back(t, count) UNLESS(WRONG_NO_HAND_BACK, flight_hand_back(t, count))
#define flight_retake(t, head, id) UNLESS(WRONG_NO_RETAKE, flight_retake(t, head, id))

#include "../../src/queue/shadow_queue.c"
