/* What the parts of the guest share. */
#include <stdint.h>

/* A page that a memory image can be searched for. state: counter << 8 | disks that have it already, in one write. gap:
 * milliseconds that the guest stood still at most, since it said so. */
struct page {
  char name[16];
  uint64_t state;
  uint32_t disks, torn, files, gap;
};

extern volatile struct page *page;

/* Each starts a process of its own, which ends with the guest. */
void write_files(const char *device);
void dirty_memory(int rate);
