"""Text: next-token prediction, translation and pronunciation, each by two architectures.

A workload is one corpus and one architecture. Its class inherits the data from one module
(`sotu`, `text8`, `bible`, `pronunciation`) and the model from another (`lstm_language`,
`transformer_language`, `lstm_seq2seq`, `transformer_seq2seq`), so that the source hash of a cell
covers both; `next_token` and `seq2seq` say what loss and error are. A change to what those modules
import (`vocabulary`, `transformer`, `sword`) raises the `version` of every workload that uses it.
"""
