-- A search asks which of what it has found are transcripts; most are not, and need not be looked up for that.
create index search_document_transcripts on search_document (space_id, id) where is_transcript;
