/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A file's pages through the bulk pipeline. */
#include "files/pages.h"

struct pass {
    const struct kr_file *file;
    const struct kr_file_pages *pages;
    uint64_t told;
};

static enum kr_status work(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct pass *pass = context;
    return pass->pages->work(chunk, pass->pages->context, err);
}

static bool progress(uint64_t done, uint64_t total, void *context)
{
    struct pass *pass = context;
    (void)total;
    kr_file_done(pass->file, (done - pass->told) * pass->pages->page_size);
    pass->told = done;
    return true;
}

unsigned kr_file_pages_threads(const struct kr_file *file)
{
    return file->run->threads < KR_BULK_THREADS_MAX ? file->run->threads : KR_BULK_THREADS_MAX;
}

enum kr_status kr_file_pages_run(const struct kr_file *file, const struct kr_file_pages *pages,
                                 struct kr_error *err)
{
    struct pass pass = {.file = file, .pages = pages};
    const struct kr_bulk bulk = {
        .in = file->fd,
        .out = pages->out,
        .in_name = file->path,
        .out_name = "the output",
        .size = file->size,
        .page_size = pages->page_size,
        .threads = kr_file_pages_threads(file),
        .map = pages->map,
        .work = work,
        .progress = progress,
        .context = &pass,
        .stop = file->run->stop,
    };
    struct kr_bulk_result result;
    return kr_bulk_run(&bulk, &result, err);
}
