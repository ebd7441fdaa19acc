// SPDX-License-Identifier: GPL-2.0
/* The codec of the page-bitmap protocol: the device's own file, built here again. */

#include "page_run.c"
