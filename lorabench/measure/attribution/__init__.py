"""What the bytes at the peak are: which category, which module, and how they came and went through one steady step.

A dispatch mode follows every storage through one step (``mode``), hooks tell in whose forward pass it was made
(``owners``), walks over the model and the optimizer name what was there before (``holders``), and the device says what
a storage's block holds beyond the bytes asked for (``blocks``). ``observe`` runs the step, ``summary`` adds up.

A storage has one category for all of its life, decided when the step is over: what it became counts, so that a
gradient is one from the moment the product that makes it has its memory.
"""
