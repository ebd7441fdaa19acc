/* SPDX-License-Identifier: BSD-2-Clause */
/* Values of options: see options.h. */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/error.h"

#define NAME_LENGTH_MAX 64 /* bytes; names stand in log lines and in JSON */

int option_number(const char *option, const char *text, unsigned int min, unsigned int max,
		  unsigned int *value, struct umbra_error *err)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(text, &end, 10);
	/* strtoul() takes "-1" and " 1" too. */
	if (!isdigit((unsigned char)text[0]) || *end || errno || number < min || number > max)
		return error_set(err, -EINVAL, "%s=%.80s: expected a number from %u to %u", option,
				 text, min, max);
	*value = (unsigned int)number;
	return 0;
}

bool option_is_percent(const char *text)
{
	return text[0] && text[strlen(text) - 1] == '%';
}

int option_percent(const char *option, const char *text, unsigned int *percent,
		   struct umbra_error *err)
{
	char digits[4] = "";
	size_t length = strlen(text);

	if (option_is_percent(text) && length <= sizeof(digits)) {
		memcpy(digits, text, length - 1);
		if (!option_number(option, digits, 1, 100, percent, err))
			return 0;
	}
	return error_set(err, -EINVAL, "%s=%.80s: expected 1%% to 100%%", option, text);
}

int option_choice(const char *option, const char *text, const char *const *words,
		  unsigned int *value, struct umbra_error *err)
{
	char list[80] = "";
	unsigned int i;

	for (i = 0; words[i]; i++) {
		size_t used = strlen(list);

		if (!strcmp(words[i], text)) {
			*value = i;
			return 0;
		}
		snprintf(list + used, sizeof(list) - used, "%s%s",
			 !i             ? ""
			 : words[i + 1] ? ", "
					: " or ",
			 words[i]);
	}
	return error_set(err, -EINVAL, "%s=%.80s: expected %s", option, text, list);
}

int option_socket_path(const char *option, const char *text, struct umbra_error *err)
{
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	if (!text[0])
		return error_set(err, -EINVAL, "%s=: expected the path of a unix socket", option);
	if (strlen(text) > max)
		return error_set(err, -EINVAL,
				 "%s=%.40s...: the path has %zu bytes, expected at most %zu, which "
				 "is what a unix socket's address holds",
				 option, text, strlen(text), max);
	return 0;
}

int option_mode(const char *option, const char *text, unsigned int *mode, struct umbra_error *err)
{
	unsigned long bits;
	char *end;

	errno = 0;
	bits = strtoul(text, &end, 8);
	if (!isdigit((unsigned char)text[0]) || *end || errno || !bits || bits > 0777)
		return error_set(
			err, -EINVAL,
			"%s=%.80s: expected permission bits in octal, 1 to 777 (660: owner "
			"and group may connect)",
			option, text);
	*mode = (unsigned int)bits;
	return 0;
}

int option_group(const char *option, const char *text, unsigned int *group, struct umbra_error *err)
{
	const struct group *found;

	if (isdigit((unsigned char)text[0]))
		return option_number(option, text, 0, UINT_MAX - 1, group, err);
	errno = 0;
	found = getgrnam(text);
	if (!found)
		return error_set(err, -EINVAL, "%s=%.80s: %s", option, text,
				 errno ? strerror(errno)
				       : "there is no such group, expected the name or the number "
					 "of one");
	*group = found->gr_gid;
	return 0;
}

bool option_is_same_path(const char *a, const char *b)
{
	char folders[2][PATH_MAX], names[2][PATH_MAX];
	const char *paths[] = { a, b };
	struct stat stats[2];

	if (!strcmp(a, b))
		return true;
	for (int i = 0; i < 2; i++) {
		if (strlen(paths[i]) >= PATH_MAX)
			return false;
		strcpy(folders[i], paths[i]);
		strcpy(names[i], paths[i]);
		if (stat(dirname(folders[i]), &stats[i]))
			return false;
	}
	return stats[0].st_dev == stats[1].st_dev && stats[0].st_ino == stats[1].st_ino &&
	       !strcmp(basename(names[0]), basename(names[1]));
}

int option_name(const char *option, const char *text, struct umbra_error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t len = strlen(text);

	if (!len || len > NAME_LENGTH_MAX || strspn(text, allowed) != len)
		return error_set(err, -EINVAL,
				 "%s=%.80s: expected 1 to %d letters, digits, '.', '_' or '-'",
				 option, text, NAME_LENGTH_MAX);
	return 0;
}

/* The digits after a point, as parts of 10^9; false: too many of them. */
static bool parse_fraction(const char *text, const char **end, uint64_t *billionths)
{
	uint64_t place = 100000000u;

	*billionths = 0;
	for (; isdigit((unsigned char)*text); text++, place /= 10) {
		if (!place)
			return false;
		*billionths += (uint64_t)(*text - '0') * place;
	}
	*end = text;
	return true;
}

/* K, M, G or T, or one of them with "iB"; the whole rest of the text. */
static bool parse_unit(const char *text, unsigned int *shift)
{
	static const char letters[] = "KMGT";
	const char *letter = *text ? strchr(letters, toupper((unsigned char)*text)) : NULL;

	*shift = letter ? 10 * (unsigned int)(letter - letters + 1) : 0;
	return letter ? !text[1] || !strcasecmp(text + 1, "iB") : !*text;
}

int option_size(const char *option, const char *text, uint64_t *value, struct umbra_error *err)
{
	unsigned long long number;
	uint64_t billionths = 0;
	unsigned int shift;
	const char *at;
	char *end;
	bool good;

	errno = 0;
	number = strtoull(text, &end, 10);
	at = end;
	/* strtoull() takes "-1" and " 1" too. */
	good = isdigit((unsigned char)text[0]) && !errno;
	if (good && *at == '.')
		good = isdigit((unsigned char)at[1]) && parse_fraction(at + 1, &at, &billionths);
	if (good)
		good = parse_unit(at, &shift) && (shift || !billionths) &&
		       number <= (unsigned long long)INT64_MAX >> shift;
	if (good) {
		/* Below 2^40 * 10^9 / 10^9: two steps, so that no product overflows. */
		const uint64_t unit = UINT64_C(1) << shift;
		const uint64_t part = unit / 1000000000u * billionths +
				      unit % 1000000000u * billionths / 1000000000u;

		*value = ((uint64_t)number << shift) + part;
		good = *value && *value <= INT64_MAX;
	}
	if (!good)
		return error_set(err, -EINVAL,
				 "%s=%.80s: expected a number of bytes, or one with K, M, G or T "
				 "(1.5G; 512MiB), where a K is 1024",
				 option, text);
	return 0;
}

int option_socket_fd(const char *option, const char *text, int *fd, struct umbra_error *err)
{
	int domain = 0, type = 0, result;
	socklen_t size = sizeof(int);
	unsigned int number;

	result = option_number(option, text, 3, INT_MAX, &number, err);
	if (result)
		return result;
	*fd = (int)number;
	if (getsockopt(*fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) ||
	    getsockopt(*fd, SOL_SOCKET, SO_TYPE, &type, &size))
		return error_set(
			err, -EINVAL, "%s=%s: %s, expected a unix stream socket", option, text,
			errno == EBADF ? "no such file descriptor is open" : strerror(errno));
	if (domain != AF_UNIX || type != SOCK_STREAM)
		return error_set(err, -EINVAL,
				 "%s=%s: a socket of another kind, expected a unix stream "
				 "socket",
				 option, text);
	return 0;
}
