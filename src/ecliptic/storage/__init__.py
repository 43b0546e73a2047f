"""Reads and writes files: safe readers, atomic writes, a database that survives damage.

Nothing here knows CLIP, and nothing in a file is executed. Names are imported when first used.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.storage.containers.parquet_files import (
        import_parquet as import_parquet,
        open_parquet as open_parquet,
    )
    from ecliptic.storage.containers.tar_files import (
        Member as Member,
        TarFile as TarFile,
        TruncatedTarWarning as TruncatedTarWarning,
    )
    from ecliptic.storage.database import (
        Connection as Connection,
        DamagedRowError as DamagedRowError,
        HealingDatabase as HealingDatabase,
        Presence as Presence,
        Schema as Schema,
        is_present as is_present,
        select as select,
        transaction as transaction,
    )
    from ecliptic.storage.draft_folders import fill_folder as fill_folder
    from ecliptic.storage.journals import (
        JournalPlace as JournalPlace,
        WriterLock as WriterLock,
        append_line as append_line,
        read_new_lines as read_new_lines,
        read_whole_lines as read_whole_lines,
        sync_files as sync_files,
    )
    from ecliptic.storage.mapping import (
        copy_out as copy_out,
        page_out as page_out,
        release as release,
    )
    from ecliptic.storage.numpy_files import (
        map_npy as map_npy,
        read_npy as read_npy,
        read_npz as read_npz,
    )
    from ecliptic.storage.opening import (
        hash_file as hash_file,
        map_file as map_file,
        open_regular as open_regular,
        read_regular as read_regular,
    )
    from ecliptic.storage.outputs import (
        check_folder as check_folder,
        check_outputs as check_outputs,
        refuse_inputs as refuse_inputs,
    )
    from ecliptic.storage.paths import (
        cache_folder as cache_folder,
        check_path as check_path,
        make_folder as make_folder,
    )
    from ecliptic.storage.pickled.torch_files import (
        TorchArchive as TorchArchive,
        read_torch as read_torch,
    )
    from ecliptic.storage.replacing import (
        Drafts as Drafts,
        Writer as Writer,
        copy_writer as copy_writer,
        drafts_of as drafts_of,
        find_changes as find_changes,
        open_draft as open_draft,
        replace_file as replace_file,
        replace_files as replace_files,
        replace_set as replace_set,
        start_log as start_log,
        stream_writer as stream_writer,
        text_writer as text_writer,
    )
    from ecliptic.storage.safetensors_files import (
        TensorFile as TensorFile,
        read_safetensors as read_safetensors,
        read_shards as read_shards,
        read_tensors as read_tensors,
        write_safetensors as write_safetensors,
    )
    from ecliptic.storage.sniffing import (
        WEIGHT_SUFFIXES as WEIGHT_SUFFIXES,
        refuse_kind as refuse_kind,
        sniff as sniff,
        sniff_image as sniff_image,
    )
    from ecliptic.storage.tensor_formats import TensorFormat as TensorFormat
    from ecliptic.storage.text_files import (
        parse_json as parse_json,
        read_json as read_json,
        read_text as read_text,
    )
    from ecliptic.storage.vector_facts import (
        checksum_vectors as checksum_vectors,
        limit_sidecar as limit_sidecar,
        parse_facts as parse_facts,
        parse_flat_json as parse_flat_json,
        sidecar_of as sidecar_of,
    )

__getattr__, __dir__ = lazy_names(__name__)
