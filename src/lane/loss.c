/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of a chain that was lost with its back-end: see loss.h. */
#include "lane/loss.h"

#include <linux/virtio_ids.h>

/* Of all others the rule is RESET, and they have a state. */
static const struct {
	uint32_t type;
	enum loss_rule rule;
} stateless[] = {
	{ VIRTIO_ID_NET, LOSS_WIRE },
	{ VIRTIO_ID_BLOCK, LOSS_REPLAY },
	{ VIRTIO_ID_SCSI, LOSS_REPLAY },
};

enum loss_rule loss_rule_of(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(stateless); i++)
		if (stateless[i].type == type)
			return stateless[i].rule;
	return LOSS_RESET;
}

bool loss_is_of_state(uint32_t type)
{
	return loss_rule_of(type) == LOSS_RESET;
}

/* A packet on its way out: the device was only to read it. */
static bool is_packet(const struct ring_chain *chain)
{
	return chain->readable && chain->readable == chain->count;
}

enum readd_fate loss_judge(void *opaque, const struct memory *memory,
			   const struct ring_chain *chain)
{
	struct loss_terms *terms = opaque;

	(void)memory;
	if (terms->rule == LOSS_WIRE && terms->word != LOSS_SAID_REPLAY && is_packet(chain)) {
		terms->dropped++;
		return READD_DROP;
	}
	terms->given++;
	return READD_GIVE;
}
