/* A QEMU plugin that counts the guest's instructions, exactly.
 *
 * The guest calls syscall(9999, k), which no kernel knows and which does nothing; each such call prints the number k and
 * the instructions executed so far. Debian ships no header of QEMU's plugin interface, so the few prototypes of its
 * version 1 that are needed stand here.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

typedef uint64_t plugin_id;
typedef uint64_t word;
struct block;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct block *));
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int operation, void *counter, uint64_t added);
extern void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id, void (*)(plugin_id, unsigned, int64_t, word, word, word, word, word, word, word, word));

enum { INLINE_ADD = 0, MARK = 9999 };

int qemu_plugin_version = 1;
static uint64_t executed;

static void on_translation(plugin_id id, struct block *block) {
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD, &executed, qemu_plugin_tb_n_insns(block));
}

static void on_syscall(plugin_id id, unsigned cpu, int64_t number, word k, word a2, word a3, word a4, word a5, word a6,
                       word a7, word a8) {
    if (number == MARK) fprintf(stderr, "mark %" PRIu64 " at %" PRIu64 "\n", k, executed);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
