"""What the electrode is made of: X-ray properties of compounds and the lithium-silicon alloy."""
