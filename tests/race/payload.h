/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What passes over the rings of a race: each buffer carries its number, a simulated
 * device checks it and answers with a number made from it, and the driver checks that.
 */
#ifndef UMBRA_TESTS_RACE_PAYLOAD_H
#define UMBRA_TESTS_RACE_PAYLOAD_H

#include "race.h"
#include "ring/device_ring.h"

/* Plain memory: under ThreadSanitizer, publishing an index with too weak an order is a
 * data race here. */
struct payload {
	uint64_t question, answer;
};

#define ANSWER(n) ((n)*UINT64_C(0x9e3779b97f4a7c15) + 1)

/* Take up to @most chains, question *@next first, answer and publish them.  0: there
 * were fewer. */
static inline int race_device_answers(struct device_ring *ring, struct ring_chain *chain,
				      uint64_t *next, unsigned int most)
{
	int rc = 0;

	while (most-- && (rc = device_ring_take(ring, chain)) > 0) {
		struct payload *p = (void *)(uintptr_t)chain->segs[0].addr.v;

		EXPECT(p->question == *next);
		p->answer = ANSWER(*next);
		device_ring_complete(ring, chain->head, sizeof(p->answer));
		++*next;
	}
	EXPECT(rc >= 0);
	device_ring_publish(ring);
	return rc;
}

#endif
