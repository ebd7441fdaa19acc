/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The umbra program: which command to run.
 *
 * A program that management software starts by vhost-user's conventions takes
 * its options right after its name.  Called as "umbra-shadow" (an installed
 * link, which the discovery file names), the program is "umbra shadow"; likewise
 * "umbra-balloon".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cli/commands.h"
#include "cli/options.h"

struct subcommand {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
	void (*print_help)(void);
};

static const struct subcommand subcommands[] = {
	{ "shadow", "stand between a VM and a virtio back-end", command_shadow, shadow_print_help },
	{ "balloon", "take memory back from a VM's guest", command_balloon, balloon_print_help },
	{ "ctl", "control a running umbra", command_ctl, ctl_print_help },
};

static const struct subcommand *subcommand_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(subcommands); i++)
		if (!strcmp(subcommands[i].name, name))
			return &subcommands[i];
	return NULL;
}

static void print_help(FILE *stream)
{
	size_t i;

	fputs("usage: umbra COMMAND [OPTION...]\n\n", stream);
	for (i = 0; i < ARRAY_SIZE(subcommands); i++)
		fprintf(stream, "  %-10s%s\n", subcommands[i].name, subcommands[i].summary);
	fputs("  help      say more about a command: umbra help COMMAND\n\n"
	      "  -V, --version         print the version\n"
	      "  --print-capabilities  print what vhost-user's conventions ask for, as JSON\n"
	      "  -h, --help            print this text\n",
	      stream);
}

static int unknown_command(const char *name)
{
	fprintf(stderr, "umbra: %.80s: there is no such command; see umbra --help\n", name);
	return EXIT_USAGE;
}

static int help(int argc, char **argv)
{
	const struct subcommand *command;

	if (argc < 2) {
		print_help(stdout);
		return EXIT_SUCCESS;
	}
	command = subcommand_find(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	command->print_help();
	return EXIT_SUCCESS;
}

static int dispatch(int argc, char **argv)
{
	const struct subcommand *command;

	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		print_help(stdout);
		return EXIT_SUCCESS;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("umbra " UMBRA_VERSION);
		return EXIT_SUCCESS;
	}
	if (!strcmp(argv[1], "--print-capabilities")) {
		shadow_print_capabilities();
		return EXIT_SUCCESS;
	}
	if (!strcmp(argv[1], "help"))
		return help(argc - 1, argv + 1);
	command = subcommand_find(argv[1]);
	return command ? command->run(argc - 1, argv + 1) : unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = argc > 0 ? (slash ? slash + 1 : argv[0]) : "umbra";
	int status;

	if (!strcmp(name, "umbra-shadow"))
		status = command_shadow(argc, argv);
	else if (!strcmp(name, "umbra-balloon"))
		status = command_balloon(argc, argv);
	else
		status = dispatch(argc, argv);
	/* What was printed must have arrived: the disk behind stdout may be full. */
	if (fflush(stdout) && status == EXIT_SUCCESS) {
		perror("umbra: cannot write to standard output");
		return EXIT_FAILURE;
	}
	return status;
}
