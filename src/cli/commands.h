/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program's commands.  Each takes its own name as argv[0] and returns the
 * exit status.
 */
#ifndef UMBRA_CLI_COMMANDS_H
#define UMBRA_CLI_COMMANDS_H

int command_shadow(int argc, char **argv);
int command_balloon(int argc, char **argv);
int command_ctl(int argc, char **argv);

void shadow_print_help(void);
void shadow_print_capabilities(void);
void balloon_print_help(void);
void balloon_print_capabilities(void);
void ctl_print_help(void);

#endif
