/* SPDX-License-Identifier: BSD-2-Clause */
/* What a back-end shall do wrong: see plan.h. */
#include "plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const char *const names[] = {
	[BLK_NOTHING] = "nothing", [BLK_DIE] = "die",       [BLK_HANG] = "hang",
	[BLK_CLOSE] = "close",     [BLK_LINGER] = "linger", [BLK_KEEP_IT] = "keep",
	[BLK_SKIP_IT] = "skip",    [BLK_LIE] = "lie",
};

const char *blk_action_name(enum blk_action action)
{
	return names[action];
}

static bool number_parse(const char *text, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(text, &end, 0);
	return !errno && end != text && !*end && *text != '-' && *text != '+';
}

static bool action_parse(const char *text, struct blk_planned *p)
{
	if (!strncmp(text, "lie=", 4)) {
		char sign = text[4];

		p->action = BLK_LIE;
		p->is_relative = sign == '+' || sign == '-';
		if (!number_parse(text + 4 + p->is_relative, &p->value))
			return false;
		p->value = sign == '-' ? -p->value : p->value;
		return true;
	}
	for (enum blk_action a = BLK_DIE; a < BLK_LIE; a++)
		if (!strcmp(text, names[a]))
			p->action = a;
	return p->action != BLK_NOTHING;
}

static bool place_parse(char *text, struct blk_planned *p)
{
	char *which = strchr(text, ':');

	if (*text == '#') {
		p->store = BLK_STORE_COUNT;
		return number_parse(text + 1, &p->which) && p->which;
	}
	if (which) {
		*which++ = '\0';
		p->each = !strcmp(which, "*");
		if (!p->each && (!number_parse(which, &p->which) || !p->which))
			return false;
	}
	p->after = !strncmp(text, "after-", 6);
	if (!p->after && strncmp(text, "before-", 7) != 0)
		return false;
	p->store = blk_store_find(text + (p->after ? 6 : 7));
	return p->store != BLK_STORE_COUNT;
}

/* Where it makes a difference. */
static bool is_sensible(const struct blk_planned *p)
{
	switch (p->action) {
	case BLK_KEEP_IT:
		return p->store == BLK_EXECUTE && !p->after;
	case BLK_SKIP_IT:
	case BLK_LIE:
		return p->store != BLK_EXECUTE && p->store != BLK_TAKE && !p->after;
	default:
		return true;
	}
}

int blk_plan_make(struct blk_plan *plan, const char *text, struct umbra_error *err)
{
	struct blk_plan made = { .count = 0 };
	char copy[1024], *rest = copy, *item;

	if (strlen(text) >= sizeof(copy))
		return error_set(err, -EINVAL, "a plan of %zu bytes; expected less than %zu",
				 strlen(text), sizeof(copy));
	memcpy(copy, text, strlen(text) + 1);
	while ((item = strsep(&rest, ","))) {
		struct blk_planned p = { .action = BLK_NOTHING };
		char *place = strchr(item, '@');

		if (!*item)
			continue;
		if (place)
			*place++ = '\0';
		if (!place || !action_parse(item, &p) || !place_parse(place, &p) ||
		    !is_sensible(&p))
			return error_set(err, -EINVAL,
					 "'%s' at '%s': no such thing can be planned; expected "
					 "ACTION@before-STORE[:WHICH]",
					 item, place ? place : "");
		if (made.count == BLK_PLAN_MOST)
			return error_set(err, -EINVAL, "more than %u things are planned",
					 BLK_PLAN_MOST);
		made.items[made.count++] = p;
	}
	*plan = made;
	return 0;
}

static bool is_about(const struct blk_planned *item, const struct blk_point *p)
{
	if (item->each || !item->which)
		return true;
	if (p->message)
		return p->message == item->which;
	for (unsigned int i = 0; i < p->about_count; i++)
		if (p->about[i].number == item->which)
			return true;
	return false;
}

enum blk_action blk_plan_ask(struct blk_plan *plan, struct blk_point *p)
{
	plan->points++;
	for (unsigned int i = 0; i < plan->count; i++) {
		struct blk_planned *item = &plan->items[i];
		enum blk_action action = item->action;
		bool now = item->store == BLK_STORE_COUNT
				   ? item->which == plan->points
				   : item->store == p->store && item->after == p->after &&
					     is_about(item, p);

		if (!action || !now)
			continue;
		if (action == BLK_LIE)
			p->value = item->value + (item->is_relative ? p->value : 0);
		if (!item->each)
			item->action = BLK_NOTHING;
		return action;
	}
	return BLK_NOTHING;
}
