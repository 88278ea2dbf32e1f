"""Mutation testing: breaks one small thing of the product at a time and sees whether a test notices."""
