/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Two hash tables with chained, insert-only nodes: readers follow atomic pointers, and a node is
 * complete before it is published. A fixed number of buckets keeps resizing out of it: ten
 * thousand versions are chains of two or three.
 */
#include "provider/keytable.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { BUCKETS = 4096 };

struct version_node {
    struct version_node *next;
    struct kr_data_key *key;
};

struct key_node {
    struct key_node *next;
    uint32_t id;
    _Atomic uint32_t latest;
};

struct kr_keytable {
    _Atomic(struct key_node *) keys[BUCKETS];
    _Atomic(struct version_node *) versions[BUCKETS];
    _Atomic uint32_t key_count, version_count;
};

static size_t bucket(uint32_t id, uint32_t version)
{
    uint64_t mixed = ((uint64_t)id << 32 | version) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(mixed >> 52);
}

struct kr_keytable *kr_keytable_new(void)
{
    return calloc(1, sizeof(struct kr_keytable));
}

void kr_keytable_free(struct kr_keytable *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        struct key_node *key = table->keys[i];
        while (key) {
            struct key_node *next = key->next;
            free(key);
            key = next;
        }
        struct version_node *version = table->versions[i];
        while (version) {
            struct version_node *next = version->next;
            kr_secret_free(version->key);
            free(version);
            version = next;
        }
    }
    free(table);
}

static struct key_node *find_key(const struct kr_keytable *table, uint32_t id)
{
    struct key_node *node = atomic_load_explicit(&table->keys[bucket(id, 0)], memory_order_acquire);
    while (node && node->id != id)
        node = node->next;
    return node;
}

/* Finds or makes the node; a new one has no latest version yet, which readers take as absent. */
static struct key_node *need_key(struct kr_keytable *table, uint32_t id)
{
    struct key_node *node = find_key(table, id);
    if (node)
        return node;
    node = calloc(1, sizeof(*node));
    if (!node)
        return NULL;
    node->id = id;
    _Atomic(struct key_node *) *head = &table->keys[bucket(id, 0)];
    node->next = *head;
    atomic_store_explicit(head, node, memory_order_release);
    table->key_count++;
    return node;
}

bool kr_keytable_add(struct kr_keytable *table, struct kr_data_key *key)
{
    struct version_node *node = malloc(sizeof(*node));
    struct key_node *of_key = node ? need_key(table, key->id) : NULL;
    if (!of_key) {
        free(node);
        return false;
    }
    _Atomic(struct version_node *) *head = &table->versions[bucket(key->id, key->version)];
    node->key = key;
    node->next = *head;
    atomic_store_explicit(head, node, memory_order_release);
    table->version_count++;
    if (key->version > of_key->latest)
        atomic_store_explicit(&of_key->latest, key->version, memory_order_release);
    return true;
}

uint32_t kr_keytable_latest(const struct kr_keytable *table, uint32_t id)
{
    struct key_node *node = find_key(table, id);
    return node ? atomic_load_explicit(&node->latest, memory_order_acquire) : 0;
}

const struct kr_data_key *kr_keytable_find(const struct kr_keytable *table, uint32_t id,
                                           uint32_t version)
{
    const struct version_node *node =
        atomic_load_explicit(&table->versions[bucket(id, version)], memory_order_acquire);
    while (node && (node->key->id != id || node->key->version != version))
        node = node->next;
    return node ? node->key : NULL;
}

uint32_t kr_keytable_keys(const struct kr_keytable *table)
{
    return table->key_count;
}

uint32_t kr_keytable_versions(const struct kr_keytable *table)
{
    return table->version_count;
}
