"""Milvus as the search engine of indexes that outgrow one machine; the only package that imports pymilvus."""
