/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the parts of a flight table are, for its writer and its reader.  See flight_table.h. */
#ifndef UMBRA_FLIGHT_FLIGHT_LAYOUT_H
#define UMBRA_FLIGHT_FLIGHT_LAYOUT_H

#include "flight/flight_table.h"

/* Offsets in bytes; the entries follow the header. */
struct flight_layout {
	size_t entries, log, ghosts, descs, total;
};

bool flight_sizes_are_valid(const struct flight_sizes *sizes);
struct flight_layout flight_layout(const struct flight_sizes *sizes);
/* Of the words from version to bytes, as they are to be. */
uint64_t flight_checksum(const struct flight_sizes *sizes);

/* Point @t into @memory, as the sizes say. */
void flight_map(struct flight_table *t, void *memory, const struct flight_sizes *sizes);

/* One entry as a private copy.  @handed and @mark: of the life in force. */
struct flight flight_load(const struct flight_entry *e, uint16_t head, uint64_t handed,
			  uint64_t mark);

/* The oldest first. */
void flight_sort(struct flight *list, uint32_t count);

#endif
