/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A balloon device that goes on in another program: what it knows beside its rings, as a record
 * (base/record.h).  The ledger goes along as the memory that it lies in.
 *
 * Trust: what is read may be anything.  What is believed is what shall be in the balloon, and what
 * the driver said; and of the ledger what it can say (ledger.h).
 */
#include <errno.h>
#include <stdlib.h>

#include "balloon/balloon_device_private.h"
#include "base/error.h"

int balloon_device_ledger_fd(const struct balloon_device *d)
{
	return d->ledger && d->ledger->room ? d->ledger->room->fd : -1;
}

void balloon_device_save(const struct balloon_device *d, struct record *w)
{
	const struct balloon_aim *a = &d->aim;

	RECORD_PUT(w, "wish", a->wish.bytes, a->wish.take, a->wish.force, a->wish_percent,
		   a->wish_id);
	RECORD_PUT(w, "aim", a->is_converted, a->awaits_stats, a->pages, a->guest_bytes,
		   a->is_guess, a->unconfirmed_bytes, a->base_bytes, a->within_bytes);
	RECORD_PUT(w, "account", d->account, d->adopted, d->actual, d->poison,
		   d->driver_writes_actual);
}

/* Read, and not believed yet. */
struct balloon_inheritance {
	struct balloon_aim aim;
	enum balloon_account account;
	uint32_t adopted, actual, poison;
	bool driver_writes_actual;
	struct ledger *ledger; /* or NULL */
};

static int aim_read(struct record *in, struct balloon_aim *a, struct umbra_error *err)
{
	uint64_t wish[5], aim[8];
	int rc = record_get(in, "wish", wish, 5, err);

	if (!rc)
		rc = record_get(in, "aim", aim, 8, err);
	if (rc)
		return rc;
	if (wish[1] > 1 || wish[2] > 1 || wish[3] > 100 || aim[0] > 1 || aim[1] > 1 ||
	    aim[2] > UINT32_MAX || aim[4] > 1)
		return error_set(err, -EINVAL, "a target of the balloon that nobody can have set");
	*a = (struct balloon_aim){
		.wish = { wish[0], wish[1], wish[2] },
		.wish_percent = (unsigned int)wish[3],
		.wish_id = wish[4],
		.is_converted = aim[0],
		.awaits_stats = aim[1],
		.pages = (uint32_t)aim[2],
		.guest_bytes = aim[3],
		.is_guess = aim[4],
		.unconfirmed_bytes = aim[5],
		.base_bytes = aim[6],
		.within_bytes = aim[7],
	};
	return 0;
}

static int account_read(struct record *in, struct balloon_inheritance *i, struct umbra_error *err)
{
	uint64_t v[5];
	int rc = record_get(in, "account", v, 5, err);

	if (rc)
		return rc;
	if (v[0] > BALLOON_ACCOUNT_KNOWN || v[1] > UINT32_MAX || v[2] > UINT32_MAX ||
	    v[3] > UINT32_MAX || v[4] > 1)
		return error_set(err, -EINVAL, "an account of the balloon that cannot be");
	i->account = (enum balloon_account)v[0];
	i->adopted = (uint32_t)v[1];
	i->actual = (uint32_t)v[2];
	i->poison = (uint32_t)v[3];
	i->driver_writes_actual = v[4];
	return 0;
}

static void inheritance_free(struct balloon_inheritance *i)
{
	if (i)
		ledger_destroy(&i->ledger);
	free(i);
}

int balloon_device_inherit(struct balloon_device *d, struct record *in,
			   const struct memory_region *room, struct umbra_error *err)
{
	struct balloon_inheritance *i = calloc(1, sizeof(*i));
	int rc;

	if (!i)
		return error_set(err, -ENOMEM, "no memory for what a balloon inherits");
	rc = aim_read(in, &i->aim, err);
	if (!rc)
		rc = account_read(in, i, err);
	if (!rc && room)
		rc = ledger_read(room, &i->ledger, err);
	if (rc) {
		inheritance_free(i);
		return rc;
	}
	balloon_device_disinherit(d);
	d->inherited = i;
	d->at_rest = true;
	return 0;
}

void balloon_device_disinherit(struct balloon_device *d)
{
	inheritance_free(d->inherited);
	d->inherited = NULL;
}

/* The ledger of what is mapped now, or, as long as nothing is, what it will be made of. */
static int ledger_inherit(struct balloon_device *d, struct balloon_inheritance *i,
			  struct umbra_error *err)
{
	struct ledger *ledger = NULL;
	int rc;

	if (!i->ledger)
		return 0;
	if (d->rings.memory) {
		rc = balloon_ledger_make(d, d->rings.memory, i->ledger, &ledger, err);
		if (rc)
			return rc;
	} else {
		ledger = i->ledger;
		i->ledger = NULL;
	}
	ledger_destroy(&d->ledger);
	d->ledger = ledger;
	return 0;
}

int balloon_device_go_on(struct balloon_device *d, struct umbra_error *err)
{
	struct balloon_inheritance *i = d->inherited;
	int rc;

	guest_rings_pause(&d->rings);
	rc = ledger_inherit(d, i, err);
	if (!rc) {
		d->account = i->account;
		d->adopted = i->adopted;
		d->actual = i->actual;
		d->poison = d->attached ? i->poison : 0;
		d->driver_writes_actual = i->driver_writes_actual;
		i->aim.generation = d->aim.generation;
		i->aim.wished_us = device_host_now_us(d->host->device);
		d->aim = i->aim;
		balloon_account_changed(d, d->rings.memory ? d->ledger : NULL);
	}
	balloon_device_disinherit(d);
	return rc;
}

void balloon_device_rest(struct balloon_device *d)
{
	guest_rings_pause(&d->rings);
	d->at_rest = true;
}

void balloon_device_serve(struct balloon_device *d)
{
	d->at_rest = false;
	guest_rings_resume(&d->rings);
	/* It may have changed unheard. */
	device_host_config_changed(d->host->device);
}
