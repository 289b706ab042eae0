/* QEMU plugin (API version 1) that counts the guest instructions between two markers.
 *
 * The markers are instructions that do nothing: benchmarks/arm/marks.h has them. Prints "region N COUNT" for each pair,
 * markers not counted. Arguments: out=FILE; pcs=FILE writes "ADDRESS COUNT" of every instruction that ran inside
 * region number region=N, for cycle estimates.
 *
 * Debian ships QEMU without its plugin header, so the few declarations that we need stand here. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct {
  const char* target_name;
  struct {
    int min, cur;
  } version;
  bool system_emulation;
  int vcpus[2];
} qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0, INLINE_ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb*));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, void (*)(unsigned, void*), int, void*);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn*, int, void*, uint64_t);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void*), void*);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn*);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn*);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

/* One instruction of the program: how often it ran, in all, at the last begin marker, and inside the chosen region. */
typedef struct {
  uint64_t address, runs, before, inside;
} place;

enum { TABLE = 1 << 18 };
static place* places;
static uint64_t executed, begun_at;
static long regions, chosen = -1;
static FILE *out, *pcs;

static const struct {
  const char* target;
  size_t size;
  uint32_t begin, end;
} markers[] = {
    {"aarch64", 4, 0xD5032C1F, 0xD5032C3F},
    {"arm", 2, 0xBF80, 0xBF90}, /* Thumb */
    {"arm", 4, 0xE320F010, 0xE320F011},
    {"x86_64", 4, 0x60401F0F, 0x61401F0F},
};
static const char* target;
static bool inside; /* a region */
static bool board;  /* a Cortex-M, which has Thumb alone */

/* Whether an instruction is a marker. QEMU looks ahead at the end of a page, and takes what it reads there for a part
 * of the instruction: a 16-bit one is told by its first half, which no 32-bit one begins with. */
static bool is_marker(size_t k, uint32_t word, size_t size, uint32_t marker) {
  if (strcmp(markers[k].target, target)) return false;
  if (board && markers[k].size == 2) return (word & 0xFFFF) == marker;
  return markers[k].size == size && word == marker;
}

static place* place_of(uint64_t address) {
  size_t i = (size_t)((address * 0x9E3779B97F4A7C15u) >> 46);
  while (places[i].address && places[i].address != address) i = (i + 1) % TABLE;
  places[i].address = address;
  return &places[i];
}

static void begin(unsigned cpu, void* data) {
  (void)cpu, (void)data;
  begun_at = executed;
  inside = true;
  for (size_t i = 0; pcs && i < TABLE; ++i) places[i].before = places[i].runs;
}

static void end(unsigned cpu, void* data) {
  (void)cpu, (void)data;
  if (!inside) return; /* a region too few, which is seen; else all since the last one would be counted */
  inside = false;
  fprintf(out, "region %ld %" PRIu64 "\n", regions, executed - begun_at - 1); /* the end marker counted itself */
  for (size_t i = 0; pcs && regions == chosen && i < TABLE; ++i) places[i].inside = places[i].runs - places[i].before;
  ++regions;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* block) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); ++i) {
    struct qemu_plugin_insn* instruction = qemu_plugin_tb_get_insn(block, i);
    const size_t size = qemu_plugin_insn_size(instruction);
    uint32_t word = 0;
    memcpy(&word, qemu_plugin_insn_data(instruction), size < 4 ? size : 4);
    qemu_plugin_register_vcpu_insn_exec_inline(instruction, INLINE_ADD_U64, &executed, 1);
    if (pcs)
      qemu_plugin_register_vcpu_insn_exec_inline(instruction, INLINE_ADD_U64,
                                                 &place_of(qemu_plugin_insn_vaddr(instruction))->runs, 1);
    for (size_t k = 0; k < sizeof markers / sizeof markers[0]; ++k) {
      if (is_marker(k, word, size, markers[k].begin))
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, begin, NO_REGISTERS, NULL);
      if (is_marker(k, word, size, markers[k].end))
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, end, NO_REGISTERS, NULL);
    }
  }
}

static void finish(qemu_plugin_id_t id, void* data) {
  (void)id, (void)data;
  fclose(out);
  for (size_t i = 0; pcs && i < TABLE; ++i)
    if (places[i].inside) fprintf(pcs, "%" PRIx64 " %" PRIu64 "\n", places[i].address, places[i].inside);
  if (pcs) fclose(pcs);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info, int argc, char** argv) {
  target = strdup(info->target_name);
  board = info->system_emulation;
  for (int i = 0; i < argc; ++i) {
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!strncmp(argv[i], "pcs=", 4)) pcs = fopen(argv[i] + 4, "w");
    if (!strncmp(argv[i], "region=", 7)) chosen = atol(argv[i] + 7);
  }
  places = calloc(TABLE, sizeof *places);
  if (!out || !places) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finish, NULL);
  return 0;
}
