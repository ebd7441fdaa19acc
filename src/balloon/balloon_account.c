/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The account of what is in the balloon: the ledger's pages, and those that a driver has
 * from before, which are a mere number.  See balloon_device.h.
 */
#include <inttypes.h>

#include "balloon/balloon_device_private.h"
#include "base/log.h"

int balloon_ledger_make(struct balloon_device *d, const struct memory *memory,
			const struct ledger *before, struct ledger **out, struct umbra_error *err)
{
	struct memory_region room;
	uint64_t bytes;
	int rc;

	if (!d->host->ops->make_room)
		return ledger_create(memory, before, NULL, out, err);
	rc = ledger_measure(memory, &bytes, err);
	if (!rc)
		rc = d->host->ops->make_room(d->host, bytes, &room, err);
	if (rc)
		return rc;
	rc = ledger_create(memory, before, &room, out, err);
	memory_backing_unref(room.backing);
	return rc;
}

void balloon_account_changed(struct balloon_device *d, const struct ledger *l)
{
	struct balloon_counters *c = &d->shared.counters;

	__atomic_store_n(&c->pages, l ? l->pages : 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->unfreed, l ? l->unfreed : 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->adopted, l ? d->adopted : 0, __ATOMIC_RELAXED);
	balloon_device_generation_begin(d);
}

/*
 * The driver says how many pages it has, and it has some that we have never seen: what
 * the ledger lacks is taken over as a mere number.  It is made anew each time, so that
 * pages that went back since, or came, are counted once.
 */
void balloon_account_adopt(struct balloon_device *d)
{
	uint64_t pages = __atomic_load_n(&d->shared.counters.pages, __ATOMIC_RELAXED);
	struct balloon_base base = balloon_device_base(d);
	uint64_t most = base.within >> PAGE_RUN_SHIFT, actual = MIN(d->actual, most);

	d->adopted = (uint32_t)(actual - MIN(actual, pages));
	__atomic_store_n(&d->shared.counters.adopted, d->adopted, __ATOMIC_RELAXED);
	balloon_device_generation_begin(d);
	if (d->account == BALLOON_ACCOUNT_ADOPTED)
		return;
	d->account = BALLOON_ACCOUNT_ADOPTED;
	log_info("the driver says that %u MiB are in the balloon, from before this program began "
		 "to serve it: taken over%s",
		 d->actual >> (20 - PAGE_RUN_SHIFT),
		 d->aim.wish_id ? "" : ", and left there until a target is set");
	balloon_device_aim_adopt(d, (uint32_t)actual);
	device_host_config_changed(d->host->device);
}

/* The driver that filled the balloon is no more. */
void balloon_device_clear_account(struct balloon_device *d)
{
	if (d->ledger)
		ledger_clear(d->ledger);
	d->account = BALLOON_ACCOUNT_KNOWN;
	d->adopted = 0;
	balloon_account_changed(d, d->rings.memory ? d->ledger : NULL);
	d->actual = 0;
	d->driver_writes_actual = false;
	balloon_stats_clear(&d->shared.stats);
	balloon_device_aim_forget(d);
}
